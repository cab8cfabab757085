"""Samples as they are kept: those of one event and five minutes together, by GPU and reading.

A row for each sample would be most of the database. What does not change within a minute is
written once, instants as differences, numbers in thousandths: a counter's joules and a power's
watts have no more.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping
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


def written(samples: Iterable[Row], numbers: Mapping[str, int]) -> str:
    """Return samples of one node as one text; its GPUs by their numbers."""
    by_gpu: dict[str, list[Row]] = {}
    for one in samples:
        by_gpu.setdefault(one["gpu"], []).append(one)
    return json.dumps(
        [[numbers[gpu], *_columns(mine)] for gpu, mine in by_gpu.items()], separators=(",", ":")
    )


def read(text: str, wanted: Container[int] | None = None) -> Iterator[Row]:
    """Return the samples of a text, of one device after another; of some only if asked."""
    for device, steps, *columns in json.loads(text):
        if wanted is not None and device not in wanted:
            continue
        columns += [None] * (len(READINGS) - len(columns))
        at, counter = 0, 0
        for place, step in enumerate(steps):
            row: Row = {"device": device}
            for reading, values in zip(READINGS, columns, strict=True):
                row[reading] = values[place] if isinstance(values, list) else values
                if isinstance(values, dict):
                    row[reading] = values["all"]
            at += step + (round(row["seconds"] * 1_000_000) if place else 0)
            row["at"] = from_microseconds(at)
            if row["energy_joules"] is not None:
                counter += round((row["energy_joules"] + (_used(row) if place else 0)) * 1000)
                row["energy_joules"] = counter / 1000
            if row["users"] is not None:
                row["users"] = [_USER | user for user in row["users"]]
            yield row


def _columns(samples: list[Row]) -> list[Any]:
    """Return the steps from instant to instant, and each reading; a single one that stays."""
    rows = [{name: _short(one[name]) for name in READINGS} for one in samples]
    # What is left of instant and counter, less what is to be expected, is nearly nothing.
    steps, before = list[int](), 0
    for place, (one, row) in enumerate(zip(samples, rows, strict=True)):
        at = to_microseconds(one["at"])
        steps.append(at - before - (round(row["seconds"] * 1_000_000) if place else 0))
        before = at
    if None in (counters := [row["energy_joules"] for row in rows]):
        # A difference needs one before it.
        for row in rows:
            row["energy_joules"] = None
    else:
        for place in range(len(rows) - 1, 0, -1):
            went_on = counters[place] - counters[place - 1] - _used(rows[place])
            rows[place]["energy_joules"] = _short(float(went_on))
    columns: list[Any] = [[row[name] for row in rows] for name in READINGS]
    for place, values in enumerate(columns):
        if all(value == values[0] for value in values):
            columns[place] = {"all": values[0]} if isinstance(values[0], list) else values[0]
    while columns and columns[-1] is None:
        columns.pop()
    return [steps, *columns]


def _used(row: Row) -> float:
    return row["energy_used_joules"] or 0


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [{name: one for name, one in user.items() if one is not None} for user in value]
    if not isinstance(value, float):
        return value
    rounded = round(value, 3)
    return int(rounded) if rounded.is_integer() else rounded
