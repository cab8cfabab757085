"""Every span of time the runner lives by, in one value, so that tests can be quick."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Timing:
    """All in seconds."""

    tick: float = 1.0
    """How often time itself is looked at; facts are acted on as they come."""
    beat: float = 5.0
    """Without a completed check of the collector for this long, nobody watches."""
    doubt: float = 10.0
    """A GPU whose holder nobody can tell for this long is left."""
    lease: float = 30.0
    """How long a scheduler's beat allows launches."""
    clearing: float = 30.0
    """How long memory may take to come back before the run is final without it."""
    retry: float = 10.0
    """Between two tries to write the journal of a grant."""
    shutdown_grace: float = 10.0
    """The longest grace when the service itself ends."""
    catalogue: float = 30.0
    """How often entries are checked again: a directory may come back."""
    dead_man_term: float = 25.0
    """A supervisor sends TERM when the agent's beat file is this old,"""
    dead_man_kill: float = 33.0
    """and KILL, whatever the grace, when it is this old."""
