"""The commands of the command line, once their settings are checked."""
