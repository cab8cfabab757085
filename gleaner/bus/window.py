"""How much a client takes in that it has not acknowledged yet; pure.

MQTT 5 has a broker's word for it, which mosquitto 2.0.11 does not keep: of 500 it made 2,000, as
events of 22 kB that were 270 MB. So whoever has enough stops reading for a moment: enough messages,
or enough bytes of them, for what is made of them takes ten times as many. Who acknowledges nothing
at all, for want of a database, goes on reading: a broker sends no more then, and its answers to
pings must be heard.
"""

from __future__ import annotations

PATIENCE_SECONDS = 5.0
"""Longer than a batch takes on a busy machine, shorter than a broker waits for a ping."""


class Window:
    """Counts what was received and not acknowledged."""

    def __init__(self, messages: int, size_bytes: int) -> None:
        self._most, self._most_bytes = messages, size_bytes
        self._open = self._open_bytes = 0
        self._last = float("-inf")

    def receive(self, size_bytes: int) -> None:
        """Take in one message."""
        self._open += 1
        self._open_bytes += size_bytes

    def acknowledge(self, size_bytes: int, now: float) -> None:
        """Be done with one of them; now is of any clock that only goes forward."""
        self._open -= 1
        self._open_bytes -= size_bytes
        self._last = now

    def is_full(self, now: float) -> bool:
        """Tell whether to wait before the next one is read."""
        is_enough = self._open >= self._most or self._open_bytes >= self._most_bytes
        return is_enough and now - self._last < PATIENCE_SECONDS
