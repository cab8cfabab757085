"""Samples as they are kept: those of one event and five minutes together, by GPU and reading.
The host's are beside them, as those of a GPU with the number 0.

A row for each sample would be most of the database. What does not change within a minute is
written once, instants as differences, numbers in thousandths: a counter's joules and a power's
watts have no more.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.recorder.values.columns import from_microseconds, to_microseconds
from services.recorder.values.rollup import HOST, slot_of

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
    "schedulable",
)
HOST_READINGS = ("seconds", *HOST.gauges)
_HOST = 0
"""The number of no GPU."""
_USER = {"user": None, "run": None, "entry": None, "container": None, "memory_used_bytes": None}


def by_slot(samples: Iterable[Row]) -> dict[datetime, list[Row]]:
    """Return samples by the five minutes that they belong to."""
    found: dict[datetime, list[Row]] = {}
    for one in samples:
        found.setdefault(slot_of(one["at"]), []).append(one)
    return found


def written(samples: Iterable[Row], numbers: Mapping[str, int], hosts: Sequence[Row] = ()) -> str:
    """Return samples of one node and its GPUs as one text; its GPUs by their numbers."""
    by_gpu: dict[str, list[Row]] = {}
    for one in samples:
        by_gpu.setdefault(one["gpu"], []).append(one)
    found = [[numbers[gpu], *_columns(mine, READINGS)] for gpu, mine in by_gpu.items()]
    if hosts:
        found.append([_HOST, *_columns(hosts, HOST_READINGS)])
    return json.dumps(found, separators=(",", ":"))


def read(text: str, wanted: Container[int] | None = None) -> Iterator[Row]:
    """Return the samples of a text, of one device after another; of some only if asked."""
    return _of_gpus(json.loads(text), wanted)


def read_host(text: str) -> Iterator[Row]:
    """Return the samples of the host itself."""
    return _of_host(json.loads(text))


def read_all(text: str) -> tuple[Iterator[Row], Iterator[Row]]:
    """Return the samples of all GPUs, and of the host."""
    found = json.loads(text)
    return _of_gpus(found, None), _of_host(found)


def _of_gpus(found: Sequence[Any], wanted: Container[int] | None) -> Iterator[Row]:
    for device, *rest in found:
        if device == _HOST or (wanted is not None and device not in wanted):
            continue
        for row in _rows(rest, READINGS):
            row["device"] = device
            if row["users"] is not None:
                row["users"] = [_USER | user for user in row["users"]]
            row["schedulable"] = row["schedulable"] is not False
            yield row


def _of_host(found: Sequence[Any]) -> Iterator[Row]:
    for device, *rest in found:
        if device == _HOST:
            yield from _rows(rest, HOST_READINGS)


def _rows(written: Sequence[Any], readings: Sequence[str]) -> Iterator[Row]:
    steps, *columns = written
    columns += [None] * (len(readings) - len(columns))
    at, counter = 0, 0
    for place, step in enumerate(steps):
        row: Row = {}
        for reading, values in zip(readings, columns, strict=True):
            row[reading] = values[place] if isinstance(values, list) else values
            if isinstance(values, dict):
                row[reading] = values["all"]
        at += step + (round(row["seconds"] * 1_000_000) if place else 0)
        row["at"] = from_microseconds(at)
        if row.get("energy_joules") is not None:
            counter += round((row["energy_joules"] + (_used(row) if place else 0)) * 1000)
            row["energy_joules"] = counter / 1000
        yield row


def _columns(samples: Sequence[Row], readings: Sequence[str]) -> list[Any]:
    """Return the steps from instant to instant, and each reading; a single one that stays."""
    # Whether a GPU can be used was not said always.
    rows = [{name: _short(one.get(name)) for name in readings} for one in samples]
    # What is left of instant and counter, less what is to be expected, is nearly nothing.
    steps, before = list[int](), 0
    for place, (one, row) in enumerate(zip(samples, rows, strict=True)):
        at = to_microseconds(one["at"])
        steps.append(at - before - (round(row["seconds"] * 1_000_000) if place else 0))
        before = at
    if "energy_joules" in readings:
        _make_steps(rows)
    columns: list[Any] = [[row[name] for row in rows] for name in readings]
    for place, values in enumerate(columns):
        if all(value == values[0] for value in values):
            columns[place] = {"all": values[0]} if isinstance(values[0], list) else values[0]
    while columns and columns[-1] is None:
        columns.pop()
    return [steps, *columns]


def _make_steps(rows: Sequence[Row]) -> None:
    """Put how far the counter went on in place of what it was."""
    if None in (counters := [row["energy_joules"] for row in rows]):
        # A difference needs one before it.
        for row in rows:
            row["energy_joules"] = None
        return
    for place in range(len(rows) - 1, 0, -1):
        went_on = counters[place] - counters[place - 1] - _used(rows[place])
        rows[place]["energy_joules"] = _short(float(went_on))


def _used(row: Row) -> float:
    return row["energy_used_joules"] or 0


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [{name: one for name, one in user.items() if one is not None} for user in value]
    if not isinstance(value, float):
        return value
    rounded = round(value, 3)
    return int(rounded) if rounded.is_integer() else rounded
