"""What packed hours come to for an answer about usage: by GPU, start or hour of the week; pure.

Of a node there are 70,000 hours in a year. Those of days that are alike are added up together,
a whole day at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import add
from typing import Any

from services.recorder.columns import DAY
from services.recorder.hour_rows import Stretch
from services.recorder.hours import COLUMNS, NO_MAXIMUM
from services.recorder.rollup import STATES

_KNOWN = "utilization_percent_seconds"
_SUMS = (
    *(f"{state}_seconds" for state in STATES),
    "energy_joules",
    "utilization_percent_sum",
    _KNOWN,
)
_MAXIMUM = "utilization_percent_max"
_PLACES = [COLUMNS.index(name) for name in (*_SUMS, _MAXIMUM)]
_WEEK = 7

Row = dict[str, Any]


def by_device(found: Iterable[Stretch]) -> list[Row]:
    """Return a row for each device."""
    sums: dict[int, list[int]] = {}
    for one in found:
        *columns, largest = _columns(one)
        total = [*map(sum, columns), max(largest)]
        if before := sums.get(one.device):
            total = [*map(add, before[:-1], total[:-1]), max(before[-1], total[-1])]
        sums[one.device] = total
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
    for one in found:
        starts = one.day.starts[one.begin : one.end]
        key = one.slot // DAY % _WEEK, starts.tobytes()
        columns = [starts, *_columns(one)]
        if before := sums.get(key):
            columns[1:-1] = [
                [*map(add, *pair)] for pair in zip(before[1:-1], columns[1:-1], strict=True)
            ]
            columns[-1] = [*map(max, before[-1], columns[-1])]
        sums[key] = columns
    return [
        {"clock": clock(day * DAY + start)} | _row(total)
        for (day, _), columns in sums.items()
        for start, *total in zip(*columns, strict=True)
    ]


def _columns(one: Stretch) -> list[Sequence[int]]:
    """Return the numbers of each of _SUMS, and of _MAXIMUM."""
    return [one.day.column(place, one.begin, one.end) for place in _PLACES]


def _row(total: Sequence[int]) -> Row:
    row: Row = dict(zip(_SUMS, total, strict=False))
    row["seconds"] = sum(total[: len(STATES)])
    # Of this, what was not known is kept.
    row[_KNOWN] = row["seconds"] - row[_KNOWN]
    row[_MAXIMUM] = None if total[-1] == NO_MAXIMUM else total[-1]
    return row
