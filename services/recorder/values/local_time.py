"""Where hours, days and months begin: in the time zone that was in force at the time; pure.

A boundary is an instant. A day of a clock change has 23 or 25 hours, an hour of a zone of half an
hour begins at half past. Another zone counts from when it was set: what was summed before keeps
the boundaries that it was summed by.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STEP = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class LocalTime:
    """The zones in force, each with since when; the first since ever."""

    zones: tuple[tuple[datetime, str], ...] = ((EPOCH, "UTC"),)

    def at(self, at: datetime) -> datetime:
        """Return an instant as the clock on the wall showed it."""
        return at.astimezone(ZoneInfo(self._in_force(at)[1]))

    def hour_of(self, at: datetime) -> datetime:
        """Return when the hour of an instant began."""
        return self._begin(at, _hour)

    def day_of(self, at: datetime) -> datetime:
        """Return when the day of an instant began."""
        return self._begin(at, _day)

    def month_of(self, at: datetime) -> datetime:
        """Return when the month of an instant began."""
        return self._begin(at, _month)

    def _begin(self, at: datetime, of: Callable[[datetime], datetime]) -> datetime:
        since, zone = self._in_force(at)
        return max(since, of(at.astimezone(ZoneInfo(zone))).astimezone(UTC))

    def _in_force(self, at: datetime) -> tuple[datetime, str]:
        place = bisect_right(self.zones, at, key=lambda one: one[0])
        return self.zones[max(0, place - 1)]


def next_of(begin: Callable[[datetime], datetime], at: datetime) -> datetime:
    """Return the first boundary after an instant, of what `begin` gives the boundaries of."""
    now = begin(at)
    later = at + _STEP
    width = timedelta(hours=1)
    while begin(later) == now:
        later += width
    return begin(later)


def not_before(begin: Callable[[datetime], datetime], at: datetime) -> datetime:
    """Return the first boundary that is not before an instant."""
    return at if begin(at) == at else next_of(begin, at)


@lru_cache(1)
def machine_zone() -> str:
    """Return the name of this machine's time zone; UTC where it has none."""
    names = available_timezones()
    link = str(Path("/etc/localtime").resolve()).partition("zoneinfo/")[2]
    written = Path("/etc/timezone")
    text = written.read_text().strip() if written.is_file() else ""
    for name in (os.environ.get("TZ", "").removeprefix(":"), link, text):
        if name in names:
            return name
    return "UTC"


def _hour(local: datetime) -> datetime:
    return local.replace(minute=0, second=0, microsecond=0)


def _day(local: datetime) -> datetime:
    # Where the clock change leaves no midnight, this is the instant of the change.
    return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def _month(local: datetime) -> datetime:
    return _day(local).replace(day=1)
