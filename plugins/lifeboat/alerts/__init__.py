"""Who is told: messages to the channels of a policy, with and without Airflow."""
