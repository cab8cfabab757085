"""The daemons: they know the bus and nothing of each other."""
