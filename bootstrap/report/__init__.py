"""Shows. Tables for people, JSON for programs; knows decisions, no connections."""
