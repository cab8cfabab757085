"""Use of a GPU by somebody, from samples: one stretch of time with what was used in it; pure.

Who is a person, by name, or an entry of ours; nobody is both. Each of several who share a GPU is
present on the whole of it: their seconds count in full and are marked as shared, so that GPU-hours
by user can be more than the GPU had. Energy is divided among them evenly, because a driver does
not say whose it was; memory is each one's own. A container is named where all of somebody's
processes on the GPU are in the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from services.recorder.values.rollup import energy_of
from services.recorder.values.units import whole

Row = Mapping[str, Any]
Totals = dict[str, Any]

SUMS = (
    "seconds",
    "busy_seconds",
    "held_seconds",
    "shared_seconds",
    "utilization_sum",
    "utilization_seconds",
    "memory_byte_seconds",
    "energy_joules",
)
LIMITS = ("utilization_max", "memory_max_bytes")
GAP_INTERVALS = 2
"""Somebody who was not seen for longer than this many sample intervals was gone."""


class Who(NamedTuple):
    """Somebody on a GPU. Nobody known is empty and not None: a database key has no NULL.

    In the database user and entry are the numbers of their names.
    """

    user: str | int
    entry: str | int
    container: str


def stretches(samples: Iterable[Row]) -> dict[Who, list[Totals]]:
    """Return each one's stretches on one GPU: `begin`, `end`, `interval` and what was used."""
    found: dict[Who, list[Totals]] = {}
    for sample in sorted(samples, key=_begin):
        for who, used in _present(sample):
            before = found.setdefault(who, [])
            if before and not is_gap(before[-1], used):
                before[-1] = together(before[-1], used)
            else:
                before.append(used)
    return {who: [whole(one) for one in mine] for who, mine in found.items()}


def is_gap(one: Row, other: Row) -> bool:
    """Tell whether somebody was gone between two stretches."""
    longest = max(one["interval"], other["interval"]) * GAP_INTERVALS
    apart = max(one["begin"], other["begin"]) - min(one["end"], other["end"])
    return bool(apart > timedelta(seconds=longest))


def together(one: Row, other: Row) -> Totals:
    """Return two stretches as one."""
    return {
        "begin": min(one["begin"], other["begin"]),
        "end": max(one["end"], other["end"]),
        "interval": max(one["interval"], other["interval"]),
        **added(one, other),
    }


def added(one: Row, other: Row) -> Totals:
    """Return what was used in both."""
    sums = {name: one[name] + other[name] for name in SUMS}
    return sums | {name: _larger(one[name], other[name]) for name in LIMITS}


def news(now: Iterable[Row], before: Iterable[Row]) -> list[Totals]:
    """Return the stretches of one bucket and person less what was already counted of them.

    Samples only ever come in addition, so each old stretch lies within one of the new.
    """
    counted = list(before)
    found = []
    for stretch in now:
        left = dict(stretch)
        for old in counted:
            if stretch["begin"] <= old["begin"] and old["end"] <= stretch["end"]:
                left |= {name: left[name] - old[name] for name in SUMS}
        found.append(left)
    return found


def _present(sample: Row) -> Iterator[tuple[Who, Totals]]:
    if not sample["users"]:
        return
    mine: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for user in sample["users"]:
        is_ours = bool(user["run"] or user["entry"])
        entry = (user["entry"] or user["run"]) if is_ours else ""
        mine.setdefault(("" if is_ours else user["user"] or "", entry), []).append(user)
    energy, load, seconds = energy_of(sample), sample["utilization_percent"], sample["seconds"]
    for (name, entry), parts in mine.items():
        containers = {part["container"] or "" for part in parts}
        container = containers.pop() if len(containers) == 1 else ""
        known = [part["memory_used_bytes"] for part in parts]
        memory = None if None in known else sum(known)
        yield (
            Who(name, entry, container),
            {
                "begin": _begin(sample),
                "end": sample["at"],
                "interval": seconds,
                "seconds": seconds,
                "busy_seconds": seconds if sample["state"] == "busy" else 0,
                "held_seconds": seconds if sample["state"] == "held" else 0,
                "shared_seconds": seconds if len(mine) > 1 else 0,
                "utilization_sum": (load or 0) * seconds,
                "utilization_seconds": 0 if load is None else seconds,
                "memory_byte_seconds": (memory or 0) * seconds,
                "energy_joules": (energy or 0) / len(mine),
                "utilization_max": load,
                "memory_max_bytes": memory,
            },
        )


def _begin(sample: Row) -> datetime:
    at: datetime = sample["at"]
    return at - timedelta(seconds=sample["seconds"])


def _larger(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)
