"""Decides what to do; pure: no input, output, clock, randomness or environment."""
