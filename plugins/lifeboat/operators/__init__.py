"""The Airflow face: thin operators over the core."""
