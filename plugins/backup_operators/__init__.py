"""Airflow's side of the backup platform: operators, the hook, messages, and what all DAGs share."""
