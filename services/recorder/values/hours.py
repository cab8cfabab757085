"""The sums of a GPU's or host's hours, those of one day of UTC in one packed value; pure.

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

from services.recorder.values import rollup
from services.recorder.values.columns import DAY
from services.recorder.values.units import parts_of

NO_MINIMUM, NO_MAXIMUM = 2**63 - 1, -(2**63)
_RAW = -15
_WIDTH = 8

Numbers = list[int]
"""What an hour, or several, come to: a number for each of `Columns.names`."""
Hours = dict[int, Numbers]
"""By the five minutes of the day in which each begins."""


class Columns:
    """Which numbers an hour of one kind of thing has, in their order, and what they mean."""

    def __init__(self, version: int, kind: rollup.Kind) -> None:
        self._version = version
        states = tuple(f"{state}_seconds" for state in kind.states)
        energy = ("energy_joules",) if kind.has_energy else ()
        totals = (*energy, *(f"{gauge}_sum" for gauge in kind.gauges))
        # Of what was known: for how long it was not, which is nearly always 0.
        self._sums = ("samples", *states, *totals, *kind.known)
        self._minima = tuple(f"{gauge}_min" for gauge in kind.gauges)
        self._maxima = tuple(f"{gauge}_max" for gauge in kind.gauges)
        self.names = (*self._sums, *self._minima, *self._maxima)
        self._states = slice(1, 1 + len(states))
        self._known = slice(1 + len(states) + len(totals), len(self._sums))
        self.first = len(self._sums)
        """Where the minima begin."""
        self.last = self.first + len(self._minima)
        """Where the maxima begin."""

    def pack(self, hours: Hours) -> bytes:
        """Return the hours of a day in few bytes."""
        ordered = sorted(hours.items())
        numbers = array("q", [start for start, _ in ordered])
        for column in zip(*(row for _, row in ordered), strict=True):
            try:
                numbers.extend(array("q", column))
            except OverflowError:
                # Only what somebody made up comes to so much; it must not hold up the others.
                numbers.extend(max(NO_MAXIMUM, min(NO_MINIMUM, one)) for one in column)
        together = numbers.tobytes()
        apart = b"".join(together[place::_WIDTH] for place in range(_WIDTH))
        packer = zlib.compressobj(6, zlib.DEFLATED, _RAW)
        return bytes([self._version]) + packer.compress(apart) + packer.flush()

    def together(self, one: Numbers, other: Numbers) -> Numbers:
        """Return what both come to."""
        first, last = self.first, self.last
        return [
            *map(add, one[:first], other[:first]),
            *map(min, one[first:last], other[first:last]),
            *map(max, one[last:], other[last:]),
        ]

    def numbers_of(self, totals: Mapping[str, Any]) -> Numbers:
        """Return the totals of a roll-up as numbers."""
        stored = {
            name: None if totals[name] is None else round(totals[name] * parts_of(name))
            for name in self.names
        }
        return self.numbers_of_stored(stored)

    def numbers_of_stored(self, row: Mapping[str, Any]) -> Numbers:
        """Return a row of another roll-up as numbers, as it is stored."""
        numbers = [row[name] for name in self._sums]
        seconds = sum(numbers[self._states])
        known = self._known
        numbers[known] = [0 if one is None else seconds - one for one in numbers[known]]
        numbers += [NO_MINIMUM if row[name] is None else row[name] for name in self._minima]
        numbers += [NO_MAXIMUM if row[name] is None else row[name] for name in self._maxima]
        return numbers

    def totals_of(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Return totals in the units of their names, with all seconds."""
        row: dict[str, Any] = dict(zip(self.names, numbers, strict=True))
        seconds = sum(numbers[self._states])
        row["seconds"] = seconds
        for name in self._sums[self._known]:
            row[name] = seconds - row[name]
        for name in (*self._minima, *self._maxima):
            if row[name] in (NO_MINIMUM, NO_MAXIMUM):
                row[name] = None
        return {
            name: None if value is None else value / parts_of(name) for name, value in row.items()
        }


OF_GPU, OF_HOST = Columns(1, rollup.GPU), Columns(2, rollup.HOST)
_BY_VERSION = {1: OF_GPU, 2: OF_HOST}


class Day:
    """The hours of one day: when they begin, and of each column a number for each of them."""

    def __init__(self, data: bytes) -> None:
        try:
            self.columns = _BY_VERSION[data[0]]
            plain = zlib.decompress(data[1:], _RAW)
        except (LookupError, zlib.error) as error:
            raise ValueError(f"the hours of a day are damaged: {error}") from error
        count = len(plain) // _WIDTH
        together = bytearray(len(plain))
        for place in range(_WIDTH):
            together[place::_WIDTH] = plain[place * count : (place + 1) * count]
        self._numbers = array("q")
        self._numbers.frombytes(together)
        self._hours = count // (1 + len(self.columns.names))
        self.starts = self._numbers[: self._hours]

    def column(self, place: int, begin: int, end: int) -> array[int]:
        """Return the numbers of some hours in one column."""
        first = (1 + place) * self._hours
        return self._numbers[first + begin : first + end]

    def place(self, slot: int) -> int:
        """Return which hour is the first that does not begin before some five minutes."""
        return bisect_left(self.starts, slot)

    def total(self, begin: int, end: int) -> Numbers:
        """Return what some hours come to."""
        first, last = self.columns.first, self.columns.last
        columns = [self.column(place, begin, end) for place in range(len(self.columns.names))]
        return [
            *map(sum, columns[:first]),
            *map(min, columns[first:last]),
            *map(max, columns[last:]),
        ]

    def hours(self) -> Hours:
        """Return each hour."""
        return {
            start: list(self._numbers[place + self._hours :: self._hours])
            for place, start in enumerate(self.starts)
        }


def packed(
    rows: Iterable[Mapping[str, Any]], columns: Columns = OF_GPU, owner: str = "device"
) -> Iterator[tuple[int, int, bytes]]:
    """Yield owner, day and packed hours of stored rows in the order of owner and `start`."""
    key, hours = (0, 0), Hours()
    for row in rows:
        day, slot = divmod(row["start"], DAY)
        if key != (row[owner], day * DAY) and hours:
            yield (*key, columns.pack(hours))
            hours = {}
        key = (row[owner], day * DAY)
        hours[slot] = columns.numbers_of_stored(row)
    if hours:
        yield (*key, columns.pack(hours))
