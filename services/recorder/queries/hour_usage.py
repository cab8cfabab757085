"""What packed hours come to for an answer about usage: by GPU, start or hour of the week; pure.

Of a node there are 70,000 hours in a year. Those of days that are alike are added up together,
a whole day at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import add
from typing import Any

from services.recorder.accounts.hour_rows import Stretch
from services.recorder.values.columns import DAY
from services.recorder.values.hours import NO_MAXIMUM, OF_GPU
from services.recorder.values.rollup import STATES

_KNOWN = "utilization_percent_seconds"
_SUMS = (
    *(f"{state}_seconds" for state in STATES),
    "energy_joules",
    "utilization_percent_sum",
    _KNOWN,
    "memory_used_bytes_sum",
)
_MAXIMA = ("utilization_percent_max", "memory_used_bytes_max")
_PLACES = [OF_GPU.names.index(name) for name in (*_SUMS, *_MAXIMA)]
_FIRST = len(_SUMS)
_WEEK = 7

Row = dict[str, Any]


def by_device(found: Iterable[Stretch]) -> list[Row]:
    """Return a row for each device."""
    sums: dict[int, list[int]] = {}
    for one in found:
        columns = _columns(one)
        total = [*map(sum, columns[:_FIRST]), *map(max, columns[_FIRST:])]
        if before := sums.get(one.owner):
            total = [
                *map(add, before[:_FIRST], total[:_FIRST]),
                *map(max, before[_FIRST:], total[_FIRST:]),
            ]
        sums[one.owner] = total
    return [{"device": device} | _row(total) for device, total in sums.items()]


def by_start(found: Iterable[Stretch]) -> list[Row]:
    """Return a row for each hour of each device."""
    return [
        {"start": one.slot + start} | _row(total)
        for one in found
        for start, *total in zip(one.day.starts[one.begin : one.end], *_columns(one), strict=True)
    ]


def by_clock(found: Iterable[Stretch], clock: Callable[[int], int]) -> list[Row]:
    """Return a row for each hour of the week, as a function of five minutes since 1970 tells it."""
    sums: dict[tuple[int, bytes], list[Sequence[int]]] = {}
    known_starts: dict[tuple[int, bytes], Sequence[int]] = {}
    for one in found:
        starts = one.day.starts[one.begin : one.end]
        key = one.slot // DAY % _WEEK, starts.tobytes()
        columns = _columns(one)
        if before := sums.get(key):
            pairs = [*zip(before, columns, strict=True)]
            columns = [
                *([*map(add, *pair)] for pair in pairs[:_FIRST]),
                *([*map(max, *pair)] for pair in pairs[_FIRST:]),
            ]
        sums[key] = columns
        known_starts[key] = starts
    return [
        {"clock": clock(key[0] * DAY + start)} | _row(total)
        for key, columns in sums.items()
        for start, *total in zip(known_starts[key], *columns, strict=True)
    ]


def _columns(one: Stretch) -> list[Sequence[int]]:
    """Return the numbers of each of _SUMS and _MAXIMA."""
    return [one.day.column(place, one.begin, one.end) for place in _PLACES]


def _row(total: Sequence[int]) -> Row:
    row: Row = dict(zip(_SUMS, total, strict=False))
    row["seconds"] = sum(total[: len(STATES)])
    # Of this, what was not known is kept.
    row[_KNOWN] = row["seconds"] - row[_KNOWN]
    for name, largest in zip(_MAXIMA, total[_FIRST:], strict=True):
        row[name] = None if largest == NO_MAXIMUM else largest
    return row
