"""Moves slots between primaries, by the servers' own migration or key by key."""
