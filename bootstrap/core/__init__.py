"""Decides. Pure functions over what the nodes said: no input or output, clock or randomness."""
