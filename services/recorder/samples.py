"""Samples as they are kept: those of one event and five minutes together, by GPU and reading.

A row for each sample would be most of the database. What does not change within a minute is
written once, instants as differences, numbers in thousandths: a counter's joules and a power's
watts have no more.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator
from datetime import datetime
from typing import Any

from services.recorder.columns import from_microseconds, to_microseconds
from services.recorder.rollup import slot_of

Row = dict[str, Any]
READINGS = (
    "index",
    "state",
    "seconds",
    "utilization_percent",
    "memory_utilization_percent",
    "memory_used_bytes",
    "temperature_celsius",
    "power_watts",
    "energy_joules",
    "sm_clock_mhz",
    "fan_percent",
    "energy_used_joules",
    "users",
)
_USER = {"user": None, "run": None, "entry": None, "container": None, "memory_used_bytes": None}


def by_slot(samples: Iterable[Row]) -> dict[datetime, list[Row]]:
    """Return samples by the five minutes that they belong to."""
    found: dict[datetime, list[Row]] = {}
    for one in samples:
        found.setdefault(slot_of(one["at"]), []).append(one)
    return found


def written(samples: Iterable[Row]) -> str:
    """Return samples of one node as one text."""
    by_gpu: dict[str, list[Row]] = {}
    for one in samples:
        by_gpu.setdefault(one["gpu"], []).append(one)
    return json.dumps(
        [[gpu, *_columns(mine)] for gpu, mine in by_gpu.items()], separators=(",", ":")
    )


def read(text: str, wanted: Container[str] | None = None) -> Iterator[Row]:
    """Return the samples of a text, of one GPU after the other; of some GPUs only if asked."""
    for gpu, steps, *columns in json.loads(text):
        if wanted is not None and gpu not in wanted:
            continue
        columns += [None] * (len(READINGS) - len(columns))
        at = 0
        for place, step in enumerate(steps):
            at += step
            row: Row = {"gpu": gpu, "at": from_microseconds(at)}
            for reading, values in zip(READINGS, columns, strict=True):
                row[reading] = values[place] if isinstance(values, list) else values
            if row["users"] is not None:
                row["users"] = [_USER | user for user in row["users"]]
            yield row


def _columns(samples: list[Row]) -> list[Any]:
    """Return the steps from instant to instant, and each reading; a single one that stays."""
    numbers = [to_microseconds(one["at"]) for one in samples]
    steps = [after - before for before, after in zip([0, *numbers], numbers, strict=False)]
    columns: list[Any] = [[_short(one[name]) for one in samples] for name in READINGS]
    for place, values in enumerate(columns):
        if isinstance(values[0], list) or any(value != values[0] for value in values):
            continue
        columns[place] = values[0]
    while columns and columns[-1] is None:
        columns.pop()
    return [steps, *columns]


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [{name: one for name, one in user.items() if one is not None} for user in value]
    if not isinstance(value, float):
        return value
    rounded = round(value, 3)
    return int(rounded) if rounded.is_integer() else rounded
