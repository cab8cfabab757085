"""What goes before its time when the database is too large, and in which steps; pure.

First single samples, then sums of five minutes, then events; each down to what pages show of the
last hour or day. Sums of hours, days and months, sessions and runs stay, whatever the limit says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

GOAL = 0.9
"""Of the limit; else every hour would find a little too much again."""
STEPS = 10


class Kept(StrEnum):
    """What may go before its time, in this order."""

    SAMPLES = "samples"
    FIVE_MINUTES = "sums of five minutes"
    EVENTS = "events"


ALWAYS_KEPT = {
    Kept.SAMPLES: timedelta(hours=1),
    Kept.FIVE_MINUTES: timedelta(days=1),
    Kept.EVENTS: timedelta(days=1),
}
"""How much of the past is never taken for want of room."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How large the database may be."""

    max_bytes: int

    def is_exceeded(self, used_bytes: int) -> bool:
        """Tell whether something has to go."""
        return used_bytes > self.max_bytes

    def is_met(self, used_bytes: int) -> bool:
        """Tell whether enough is gone."""
        return used_bytes <= self.max_bytes * GOAL


def horizons(kept: Kept, oldest: datetime | None, now: datetime) -> list[datetime]:
    """Return the instants before which to delete, one after the other until enough is gone.

    A tenth of what is there at a time: only measuring tells how much room that made.
    """
    last = now - ALWAYS_KEPT[kept]
    if oldest is None or oldest >= last:
        return []
    return [oldest + (last - oldest) * step / STEPS for step in range(1, STEPS + 1)]
