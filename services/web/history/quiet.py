"""When people use GPUs, hour by hour of the week, and when they do not; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.web.history.used import Row, number_of

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
QUIET_HOURS = 4
"""How long a time must be to be worth telling as the least used."""
QUIET_TIMES = 3
BUSY_SHARE = 0.2
"""A week whose busiest hour has less is pale all over."""
_KNOWN = ("idle", "busy", "held", "ours", "dirty")
"""Unknown and lost hours are nobody's, and never idle."""


@dataclass(frozen=True, kw_only=True)
class Hour:
    """One hour of the week."""

    share: float | None
    """Of the GPU-hours that are known, how many people had, from 0 to 1; None: nothing is known."""
    level: int = -1
    """From 0 to 10, the busiest hour; -1: nothing is known."""
    hours: float | None = None
    """GPU-hours of one person: nobody's share."""

    @property
    def text(self) -> str:
        """In whole percent; of one person in hours."""
        if self.hours is not None:
            return f"{self.hours:.0f}" if self.hours >= 10 else f"{self.hours:.1f}"
        return "–" if self.share is None else f"{100 * self.share:.0f}"


def week_of(rows: Iterable[Row]) -> tuple[tuple[Hour, ...], ...]:
    """Return seven days, Monday first, of 24 hours; empty if no row tells of an hour."""
    shares = {
        (int(row["weekday"]), int(row["hour"])): _people_share(row)
        for row in rows
        if "weekday" in row and "hour" in row
    }
    if not shares:
        return ()
    top = max([BUSY_SHARE, *(share for share in shares.values() if share is not None)])
    return tuple(
        tuple(_hour(shares.get((day, hour)), top) for hour in range(24)) for day in range(1, 8)
    )


def week_of_one(rows: Iterable[Row]) -> tuple[tuple[Hour, ...], ...]:
    """Return the same of one person; an hour of which nothing is told had nothing."""
    hours = {
        (int(row["weekday"]), int(row["hour"])): number_of(row, "gpu_hours") or 0.0
        for row in rows
        if "weekday" in row and "hour" in row
    }
    if not hours:
        return ()
    top = max(hours.values()) or 1.0

    def told(used: float) -> Hour:
        return Hour(share=None, level=round(10 * used / top), hours=used)

    return tuple(
        tuple(told(hours.get((day, hour), 0.0)) for hour in range(24)) for day in range(1, 8)
    )


def _hour(share: float | None, top: float) -> Hour:
    return Hour(share=share, level=-1 if share is None else round(10 * share / top))


def least_used(week: Sequence[Sequence[Hour]]) -> tuple[str, ...]:
    """Return when people leave the most alone: `Sun 04–08, 3 % busy`; one time for a day."""
    times: list[tuple[float, int, int]] = []
    for day, hours in enumerate(week):
        own: list[tuple[float, int, int]] = []
        for begin in range(25 - QUIET_HOURS):
            shares = [one.share for one in hours[begin : begin + QUIET_HOURS]]
            known = [share for share in shares if share is not None]
            if len(known) == QUIET_HOURS:
                own.append((sum(known) / QUIET_HOURS, day, begin))
        if own:
            times.append(min(own))
    return tuple(
        f"{WEEKDAYS[day]} {begin:02d}–{begin + QUIET_HOURS:02d}, {100 * share:.0f} % busy"
        for share, day, begin in sorted(times)[:QUIET_TIMES]
    )


def least_used_hours(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the same where only the hour of the day is known."""
    shares = {int(row["hour"]): _people_share(row) for row in rows if "hour" in row}
    hours = [Hour(share=shares.get(hour)) for hour in range(24)]
    return tuple(text.partition(" ")[2] for text in least_used([hours]))


def _people_share(row: Row) -> float | None:
    """Return how much of the known time people had a GPU; ours leave, so they do not count."""
    known = sum(number_of(row, f"{state}_hours") or 0.0 for state in _KNOWN)
    people = sum(number_of(row, f"{state}_hours") or 0.0 for state in ("busy", "held"))
    return people / known if known else None
