"""From recorded use to tables, bars and sums; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

Row = Mapping[str, Any]
HOURS = tuple(f"{hour:02d}" for hour in range(24))
_WATT_HOURS = 3600
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Used:
    """What somebody or something used."""

    name: str | None
    """None: nobody knows."""
    gpu_hours: float
    busy_hours: float | None
    held_hours: float | None
    utilized_hours: float | None
    utilization_percent: float | None
    memory_gib_hours: float | None
    kilowatt_hours: float | None
    ours_hours: float | None
    """Of a node or model: by our workloads."""
    shared_hours: float | None
    bar: tuple[tuple[str, float, float], ...]
    """States with where each begins and how long it is, in percent of the largest."""


@dataclass(frozen=True, kw_only=True)
class Period:
    """An hour of the day, day, week or month of the fleet; None where nothing was recorded."""

    name: str
    busy_hours: float | None = None
    held_hours: float | None = None
    ours_hours: float | None = None
    idle_hours: float | None = None
    memory_gib_hours: float | None = None

    @property
    def used_hours(self) -> float | None:
        """By people and by us; None: nothing was recorded."""
        if self.busy_hours is None:
            return None
        return self.busy_hours + (self.held_hours or 0.0) + (self.ours_hours or 0.0)


@dataclass(frozen=True, kw_only=True)
class Quota:
    """Where somebody stands this month."""

    user: str
    month: str
    gpu_hours: float
    quota_gpu_hours: float | None
    percent: float | None

    @property
    def text(self) -> str:
        """Whether that is too much."""
        if self.quota_gpu_hours is None or self.percent is None:
            return "no quota"
        left = self.quota_gpu_hours - self.gpu_hours
        rest = f"{left:.1f} h left" if left >= 0 else f"{-left:.1f} h over"
        return f"{self.percent:.0f} %, {rest}"


@dataclass(frozen=True, kw_only=True)
class Totals:
    """The fleet in one line; None where nothing is known."""

    people_hours: float | None
    busy_hours: float | None
    held_hours: float | None
    ours_hours: float | None
    idle_hours: float | None
    people: int

    @property
    def people_percent(self) -> float | None:
        """Of the GPU-hours that are known."""
        known = [self.people_hours, self.ours_hours, self.idle_hours]
        total = sum(hours or 0.0 for hours in known)
        return 100 * (self.people_hours or 0.0) / total if total else None


def totals_of(people: Sequence[Used], periods: Sequence[Period]) -> Totals:
    """Return sums of what GPUs did; a GPU that two share counts once."""

    def total(name: str) -> float | None:
        known = [hours for one in periods if (hours := getattr(one, name)) is not None]
        return sum(known) if known else None

    busy, held = total("busy_hours"), total("held_hours")
    return Totals(
        people_hours=None if busy is None else busy + (held or 0.0),
        busy_hours=busy,
        held_hours=held,
        ours_hours=total("ours_hours"),
        idle_hours=total("idle_hours"),
        people=sum(one.name is not None for one in people),
    )


def used_by(rows: Iterable[Row], by: str, *, ours: bool = False) -> tuple[Used, ...]:
    """Return who or what used how much, the largest first; of people, or of our workloads."""
    key = "entry" if ours else by
    mine = [row for row in rows if key in row and bool(row.get("entry")) == ours]
    most = max((_gpu_hours(row) for row in mine), default=0.0)
    found = (_used(row, key, most) for row in mine)
    return tuple(sorted(found, key=lambda one: -one.gpu_hours))


def periods_of(rows: Iterable[Row], by: str) -> tuple[Period, ...]:
    """Return the fleet over time, the oldest first, with those in which nothing was recorded."""
    by_name = {str(row[by]): row for row in rows if by in row}
    if not by_name:
        return ()
    return tuple(
        Period(
            name=name,
            busy_hours=number_of(by_name[name], "busy_hours"),
            held_hours=number_of(by_name[name], "held_hours"),
            ours_hours=number_of(by_name[name], "ours_hours"),
            idle_hours=number_of(by_name[name], "idle_hours"),
            memory_gib_hours=_gib_hours(by_name[name]),
        )
        if name in by_name
        else Period(name=name)
        for name in _names_between(min(by_name), max(by_name), by)
    )


def quotas_of(rows: Iterable[Row]) -> tuple[Quota, ...]:
    """Return where users stand, who is nearest to the limit first."""
    found = [
        Quota(
            user=str(row["user"]),
            month=str(row.get("month", "")),
            gpu_hours=number_of(row, "gpu_hours") or 0.0,
            quota_gpu_hours=number_of(row, "quota_gpu_hours"),
            percent=_percent(number_of(row, "gpu_hours"), number_of(row, "quota_gpu_hours")),
        )
        for row in rows
        if row.get("user")
    ]
    return tuple(sorted(found, key=lambda one: -(one.percent or 0.0)))


def _percent(used_hours: float | None, quota: float | None) -> float | None:
    return None if not quota else 100 * (used_hours or 0.0) / quota


def _used(row: Row, key: str, most: float) -> Used:
    hours = _gpu_hours(row)
    busy, held = number_of(row, "busy_hours"), number_of(row, "held_hours")
    energy, ours = number_of(row, "energy_joules"), number_of(row, "ours_hours")
    name = row.get(key)
    return Used(
        name=None if name is None else str(name),
        gpu_hours=hours,
        busy_hours=busy,
        held_hours=held,
        utilized_hours=number_of(row, "utilized_hours"),
        utilization_percent=number_of(row, "utilization_percent"),
        memory_gib_hours=_gib_hours(row),
        kilowatt_hours=None if energy is None else energy / _WATT_HOURS / 1000,
        ours_hours=ours,
        shared_hours=number_of(row, "shared_hours"),
        bar=_bar({"busy": busy, "held": held, "ours": hours if key == "entry" else ours}, most),
    )


def _bar(hours: Mapping[str, float | None], most: float) -> tuple[tuple[str, float, float], ...]:
    parts: list[tuple[str, float, float]] = []
    begin = 0.0
    for state, number in hours.items():
        length = 100 * (number or 0.0) / most if most else 0.0
        if length:
            parts.append((state, begin, length))
        begin += length
    return tuple(parts)


def _gpu_hours(row: Row) -> float:
    return number_of(row, "gpu_hours") or 0.0


def _gib_hours(row: Row) -> float | None:
    memory = number_of(row, "memory_byte_hours")
    return None if memory is None else memory / _GIB


def number_of(row: Row, name: str) -> float | None:
    """Return a figure of a row; None if it is not known."""
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else None


def _names_between(first: str, last: str, by: str) -> Iterator[str]:
    if by == "hour":
        yield from HOURS
        return
    try:
        at = _date(first, by)
    except ValueError:
        return
    while (name := _name(at, by)) <= last:
        yield name
        at += timedelta(days=32 - at.day if by == "month" else {"day": 1, "week": 7}[by])
        if by == "month":
            at = at.replace(day=1)


def _date(name: str, by: str) -> date:
    if by == "week":
        year, _, week = name.partition("-W")
        return date.fromisocalendar(int(year), int(week), 1)
    return date.fromisoformat(f"{name}-01" if by == "month" else name)


def _name(at: date, by: str) -> str:
    return f"{at:%G-W%V}" if by == "week" else f"{at:%Y-%m}" if by == "month" else f"{at:%Y-%m-%d}"
