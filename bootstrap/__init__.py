"""Makes one Redis or Valkey Cluster out of the pods of one StatefulSet, proves it, and exits."""

__version__ = "0.1.0"
