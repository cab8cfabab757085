"""What has arrived and is not committed yet, in batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gleaner.bus.messages import Event
from services.recorder.intake.batch import DeadLetter

BATCH = 500
SAMPLES = 2000
"""In one batch: as rows on their way to the database they take a hundred times the space."""
LINGER_SECONDS = 0.1
"""At most this long a batch waits for more."""
PAUSE_SECONDS = 0.01
"""When nothing came for this long there is no burst to wait for."""
EVENTS = 10_000
"""More can only come unasked (QoS 0); what is not acknowledged comes again."""
LETTERS = 500


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One event and how to tell the broker that it is safe."""

    event: Event
    acknowledge: Callable[[], None]


class Inbox:
    """Filled by the bus, emptied by the writer.

    The broker sends only so many events before it wants acknowledgements, which bounds the
    events; unreadable payloads are acknowledged at once, so of those only some are kept.
    """

    def __init__(self) -> None:
        self._arrivals: deque[Arrival] = deque()
        self._letters: deque[DeadLetter] = deque()
        self._something = asyncio.Event()
        self.letters_dropped = 0

    def add(self, arrival: Arrival) -> None:
        """Take in an event."""
        if len(self._arrivals) >= EVENTS:
            return
        self._arrivals.append(arrival)
        self._something.set()

    def add_letter(self, letter: DeadLetter) -> None:
        """Take in a payload that is no event, unless there are too many already."""
        if len(self._letters) >= LETTERS:
            self.letters_dropped += 1
            return
        self._letters.append(letter)
        self._something.set()

    async def batch(self) -> tuple[list[Arrival], list[DeadLetter]]:
        """Wait for something, and a moment longer while more keeps coming."""
        await self._something.wait()
        until = asyncio.get_running_loop().time() + LINGER_SECONDS
        while len(self._arrivals) < BATCH and asyncio.get_running_loop().time() < until:
            before = len(self._arrivals)
            await asyncio.sleep(PAUSE_SECONDS)
            if len(self._arrivals) == before:
                break
        arrivals, samples = list[Arrival](), 0
        while self._arrivals and len(arrivals) < BATCH and samples < SAMPLES:
            arrivals.append(self._arrivals.popleft())
            found = arrivals[-1].event.data.get("samples")
            samples += len(found) if isinstance(found, list) else 0
        letters = list(self._letters)
        self._letters.clear()
        if not self._arrivals:
            self._something.clear()
        return arrivals, letters
