"""The small program that holds one run, apart from the agent and nothing but standard library.

One of these stays in memory for every run, so each import counts (`typing` alone is a megabyte):
see `make bench-node`. The runner, which starts it, knows the names below; the rest is the
program's own.
"""

GO = 3
"""The agent writes one byte here once the run is known to everybody; end of file means: do not."""
BELL = 4
"""We write one byte here whenever the status has changed."""

NEVER_STARTED = "it was never started"
