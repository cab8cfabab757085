"""How fast a node sends events to the recorder, and when it sends them again.

The watermark is the only proof of arrival. While it moves, more may be on its way; when it stands
still, the same is sent again, ever more rarely and ever less at once: a recorder that is away for
a week, or a broker that drops from full queues, must not be buried under repeats.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

WINDOW = (10, 500)
"""Fewest and most events that may be on their way."""
STUCK_SECONDS = (10.0, 120.0)
"""First and longest wait for the watermark to move."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How many may be on their way, and how long to wait for the watermark."""

    window: int = WINDOW[1]
    stuck_seconds: float = STUCK_SECONDS[0]
    since: float = 0.0
    """When the watermark last moved, or had nothing to move for, or was given up."""

    def moved(self, now: float) -> Pace:
        """The watermark moved: faster, and patience anew."""
        window = min(WINDOW[1], self.window * 2)
        return Pace(window=window, since=now)

    def nothing_on_its_way(self, now: float) -> Pace:
        """Nobody owes us a watermark."""
        return replace(self, since=now)

    def is_stuck(self, now: float) -> bool:
        """Whether it is time to send again."""
        return now - self.since > self.stuck_seconds

    def gave_up(self, now: float) -> Pace:
        """Send again, but less, and wait longer the next time."""
        return Pace(
            window=max(WINDOW[0], self.window // 2),
            stuck_seconds=min(STUCK_SECONDS[1], self.stuck_seconds * 2),
            since=now,
        )
