"""What surrounds a run in its process: signals, streams, logs, redaction and the exit report."""
