"""From readings of the host to the samples of it that history keeps; pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from gleaner.bus.messages import HostReading, HostSample


class HostSamples:
    """Remembers what was read since the last sample.

    What a reading tells of CPU and network is that since the one before: a sample is the mean of
    all of them, each by the time it tells of. The rest is how it is at the end.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[float, HostReading]] = []
        self._read_at: float | None = None

    def add(self, reading: HostReading, now: float) -> None:
        """Take in a reading; `now` is monotonic."""
        # Of the first one nobody knows how much time it tells of.
        seconds = 1.0 if self._read_at is None else now - self._read_at
        self._parts.append((seconds, reading))
        self._read_at = now

    def take(self, at: datetime, seconds: float) -> HostSample | None:
        """Return the sample that is due, and begin the next; None where nothing is known."""
        parts, self._parts = self._parts, []
        if not parts:
            return None
        last = parts[-1][1]
        known = {
            "cpu_percent": _mean(parts, lambda one: one.cpu_percent, 1),
            "load_1_minute": _rounded(last.load_1_minute, 2),
            "memory_used_bytes": last.memory_used_bytes,
            "network_received_bytes_per_second": _mean(
                parts, lambda one: one.network_received_bytes_per_second, 0
            ),
            "network_sent_bytes_per_second": _mean(
                parts, lambda one: one.network_sent_bytes_per_second, 0
            ),
            "disk_used_percent": _rounded(fullest_percent(last), 1),
        }
        if all(value is None for value in known.values()):
            return None
        return HostSample.model_validate({"at": at, "seconds": seconds} | known)


def fullest_percent(reading: HostReading) -> float | None:
    """Return how full the fullest file system is; None where there is none."""
    shares = (
        100 * disk.used_bytes / disk.total_bytes for disk in reading.disks if disk.total_bytes
    )
    return max(shares, default=None)


def _mean(
    parts: list[tuple[float, HostReading]],
    value_of: Callable[[HostReading], float | None],
    digits: int,
) -> float | None:
    values = [(seconds, value_of(reading)) for seconds, reading in parts]
    known = [(seconds, value) for seconds, value in values if value is not None]
    total = sum(seconds for seconds, _ in known)
    if not total:
        return None
    return _rounded(sum(seconds * value for seconds, value in known) / total, digits)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
