"""The Airflow face: thin operators over the core. Everything here may import Airflow; nothing below may."""
