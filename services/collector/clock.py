"""Notice that somebody set the wall clock, by the clock that nobody sets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from gleaner.runtime import boot_seconds

STEP_SECONDS = 2.0
"""Less is no step, but a process that was held up between reading the one clock and the other."""


@dataclass(frozen=True, kw_only=True)
class Clocks:
    """Both clocks at one moment."""

    wall: datetime
    steady: float

    def set_since(self, before: Clocks) -> float | None:
        """Return by how many seconds the wall clock was set forward since then, None if it was not.

        NTP slews both alike, so that they come apart by a step only.
        """
        passed = (self.wall - before.wall).total_seconds()
        step = passed - (self.steady - before.steady)
        return step if abs(step) > STEP_SECONDS else None


def read_clocks() -> Clocks:
    """Return what both clocks show."""
    return Clocks(wall=datetime.now(UTC), steady=boot_seconds())
