"""The database as a place: who writes, who reads, and what goes wrong with it."""
