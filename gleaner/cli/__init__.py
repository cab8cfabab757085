"""The command line: `gleaner …`."""
