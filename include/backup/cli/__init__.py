"""The command line: what a person has when Airflow is gone. It parses, asks and prints; the core does the work."""
