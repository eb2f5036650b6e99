"""Lifeboat: backup and disaster recovery for whole systems, as an Apache Airflow DAG package."""

__version__ = "0.1.0"
