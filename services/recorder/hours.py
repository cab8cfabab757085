"""The sums of a GPU's hours, those of one day of UTC in one packed value; pure.

A row for each hour would be half of the database. Numbers lie column by column and in them byte by
byte, so that what hardly changes takes hardly any room; they are whole parts, as `units` says.
The first byte tells which columns there are: what was written once can be read for ever.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import add
from typing import Any

from services.recorder.columns import DAY
from services.recorder.rollup import GAUGES, STATES
from services.recorder.units import parts_of

SUMS = (
    "samples",
    *(f"{state}_seconds" for state in STATES),
    "energy_joules",
    *(f"{gauge}_sum" for gauge in GAUGES),
    # For how long nothing was known: nearly always 0.
    "energy_seconds",
    *(f"{gauge}_seconds" for gauge in GAUGES),
)
MINIMA = tuple(f"{gauge}_min" for gauge in GAUGES)
MAXIMA = tuple(f"{gauge}_max" for gauge in GAUGES)
COLUMNS = (*SUMS, *MINIMA, *MAXIMA)
NO_MINIMUM, NO_MAXIMUM = 2**63 - 1, -(2**63)
_STATES = slice(1, 1 + len(STATES))
_FIRST = len(SUMS)
_KNOWN = slice(2 + len(STATES) + len(GAUGES), _FIRST)
_LAST = _FIRST + len(MINIMA)
_VERSION = 1
_RAW = -15
_WIDTH = 8

Numbers = list[int]
"""What an hour, or several, come to: a number for each of COLUMNS."""
Hours = dict[int, Numbers]
"""By the five minutes of the day in which each begins."""


class Day:
    """The hours of one day: when they begin, and of each of COLUMNS a number for each of them."""

    def __init__(self, data: bytes) -> None:
        plain = zlib.decompress(data[1:], _RAW)
        count = len(plain) // _WIDTH
        together = bytearray(len(plain))
        for place in range(_WIDTH):
            together[place::_WIDTH] = plain[place * count : (place + 1) * count]
        self._numbers = array("q")
        self._numbers.frombytes(together)
        self._hours = count // (1 + len(COLUMNS))
        self.starts = self._numbers[: self._hours]

    def column(self, place: int, begin: int, end: int) -> array[int]:
        """Return the numbers of some hours in one of COLUMNS."""
        first = (1 + place) * self._hours
        return self._numbers[first + begin : first + end]

    def place(self, slot: int) -> int:
        """Return which hour is the first that does not begin before some five minutes."""
        return bisect_left(self.starts, slot)

    def total(self, begin: int, end: int) -> Numbers:
        """Return what some hours come to."""
        columns = [self.column(place, begin, end) for place in range(len(COLUMNS))]
        return [
            *map(sum, columns[:_FIRST]),
            *map(min, columns[_FIRST:_LAST]),
            *map(max, columns[_LAST:]),
        ]

    def hours(self) -> Hours:
        """Return each hour."""
        return {
            start: list(self._numbers[place + self._hours :: self._hours])
            for place, start in enumerate(self.starts)
        }


def pack(hours: Hours) -> bytes:
    """Return the hours of a day in few bytes."""
    ordered = sorted(hours.items())
    numbers = array("q", [start for start, _ in ordered])
    for column in zip(*(row for _, row in ordered), strict=True):
        numbers.extend(column)
    together = numbers.tobytes()
    apart = b"".join(together[place::_WIDTH] for place in range(_WIDTH))
    packer = zlib.compressobj(6, zlib.DEFLATED, _RAW)
    return bytes([_VERSION]) + packer.compress(apart) + packer.flush()


def together(one: Numbers, other: Numbers) -> Numbers:
    """Return what both come to."""
    return [
        *map(add, one[:_FIRST], other[:_FIRST]),
        *map(min, one[_FIRST:_LAST], other[_FIRST:_LAST]),
        *map(max, one[_LAST:], other[_LAST:]),
    ]


def numbers_of(totals: Mapping[str, Any]) -> Numbers:
    """Return the totals of a roll-up as numbers."""
    stored = {
        name: None if totals[name] is None else round(totals[name] * parts_of(name))
        for name in COLUMNS
    }
    return numbers_of_stored(stored)


def numbers_of_stored(row: Mapping[str, Any]) -> Numbers:
    """Return a row of another roll-up as numbers, as it is stored."""
    numbers = [row[name] for name in SUMS]
    seconds = sum(numbers[_STATES])
    numbers[_KNOWN] = [0 if one is None else seconds - one for one in numbers[_KNOWN]]
    numbers += [NO_MINIMUM if row[name] is None else row[name] for name in MINIMA]
    numbers += [NO_MAXIMUM if row[name] is None else row[name] for name in MAXIMA]
    return numbers


def stored(numbers: Sequence[int]) -> dict[str, Any]:
    """Return totals as other roll-ups store them, with all seconds."""
    row: dict[str, Any] = dict(zip(COLUMNS, numbers, strict=True))
    seconds = sum(numbers[_STATES])
    row["seconds"] = seconds
    for name in SUMS[_KNOWN]:
        row[name] = seconds - row[name]
    for name in (*MINIMA, *MAXIMA):
        if row[name] in (NO_MINIMUM, NO_MAXIMUM):
            row[name] = None
    return row


def totals_of(numbers: Sequence[int]) -> dict[str, Any]:
    """Return totals in the units of their names."""
    return {
        name: None if value is None else value / parts_of(name)
        for name, value in stored(numbers).items()
    }


def packed(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, int, bytes]]:
    """Yield device, day and packed hours of stored rows in the order of device and `start`."""
    key, hours = (0, 0), Hours()
    for row in rows:
        day, slot = divmod(row["start"], DAY)
        if key != (row["device"], day * DAY) and hours:
            yield (*key, pack(hours))
            hours = {}
        key = (row["device"], day * DAY)
        hours[slot] = numbers_of_stored(row)
    if hours:
        yield (*key, pack(hours))
