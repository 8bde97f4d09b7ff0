"""What surrounds a run in its process: signals, streams, log, cleaning and the exit report."""
