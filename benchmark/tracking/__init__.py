"""What MLflow is told, by the driver only: a durable spool, a thread that empties it, and the runs it writes."""
