"""The last hour of each GPU's utilization, in means of a minute; kept in memory, a byte each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from gleaner.bus.messages import Telemetry

MINUTES = 60
UNKNOWN = 255


class LastHour:
    """A ring of sixty minutes for every GPU; what was not heard stays unknown."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, _Ring]] = {}

    def take(self, telemetry: Telemetry, now: datetime) -> None:
        """Take in readings that came just now; our clock tells the minute."""
        minute = int(now.timestamp() // 60)
        rings = self._of.setdefault(telemetry.node, {})
        for reading in telemetry.gpus:
            if reading.utilization_percent is not None:
                ring = rings.get(reading.gpu) or rings.setdefault(reading.gpu, _Ring(minute))
                ring.add(minute, reading.utilization_percent)

    def fill(
        self, node: str, start: datetime, gpus: Mapping[str, Sequence[int | None]], now: datetime
    ) -> None:
        """Put means of the minutes since an instant where nothing was heard of our own."""
        minute, first = int(now.timestamp() // 60), int(start.timestamp() // 60)
        rings = self._of.setdefault(node, {})
        for gpu, means in gpus.items():
            ring = rings.get(gpu) or rings.setdefault(gpu, _Ring(minute))
            ring.fill(first, means)

    def forget(self, node: str) -> None:
        """Forget a node that is gone."""
        self._of.pop(node, None)

    def of(self, node: str, now: datetime) -> dict[str, tuple[int | None, ...]]:
        """Return a node's GPUs with sixty means in percent, the current minute last."""
        minute = int(now.timestamp() // 60)
        return {gpu: ring.minutes(minute) for gpu, ring in self._of.get(node, {}).items()}


class _Ring:
    """One GPU."""

    __slots__ = ("_count", "_minute", "_sum", "_values")

    def __init__(self, minute: int) -> None:
        self._values = bytearray([UNKNOWN]) * MINUTES
        self._minute = minute
        self._sum = 0.0
        self._count = 0

    def add(self, minute: int, percent: float) -> None:
        if minute != self._minute:
            self._clear(minute)
        self._sum += percent
        self._count += 1
        self._values[minute % MINUTES] = max(0, min(100, int(self._sum / self._count + 0.5)))

    def fill(self, first: int, means: Sequence[int | None]) -> None:
        for minute, mean in enumerate(means, start=first):
            if mean is None or not 0 <= self._minute - minute < MINUTES:
                continue
            if self._values[minute % MINUTES] == UNKNOWN:
                self._values[minute % MINUTES] = max(0, min(100, mean))

    def minutes(self, minute: int) -> tuple[int | None, ...]:
        if not 0 <= minute - self._minute < MINUTES:
            return (None,) * MINUTES
        return tuple(
            None
            if one > self._minute or (value := self._values[one % MINUTES]) == UNKNOWN
            else value
            for one in range(minute - MINUTES + 1, minute + 1)
        )

    def _clear(self, minute: int) -> None:
        """Go on to another minute; those in between are unknown. A clock set back begins anew."""
        passed = minute - self._minute
        if not 0 < passed < MINUTES:
            self._values = bytearray([UNKNOWN]) * MINUTES
        else:
            for one in range(self._minute + 1, minute + 1):
                self._values[one % MINUTES] = UNKNOWN
        self._minute, self._sum, self._count = minute, 0.0, 0
