"""What tests and benchmarks share: views, worlds, the program as a process, a health check."""
