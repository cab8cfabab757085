"""One answer for all who ask for the same when the stream told them that there is something new.

A hundred pages that show the same ask within the same moment. What is asked for after an event of
the stream has all that was told up to there, so it is right for everybody until the next event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

KEPT = 64
"""Answers to different questions at a time; more are not kept."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """A page as it goes over the wire."""

    plain: bytes
    packed: bytes
    status: int


class Sharing:
    """Keeps answers until the stream goes on."""

    def __init__(self, place: Callable[[], str]) -> None:
        """`place` returns where the stream is."""
        self._place = place
        self._kept_at = ""
        self._answers: dict[str, asyncio.Task[Written]] = {}

    async def get(self, key: str, make: Callable[[], Coroutine[None, None, Written]]) -> Written:
        """Return an answer made since the last event of the stream."""
        place = self._place()
        if place != self._kept_at:
            self._kept_at = place
            self._answers.clear()
        answer = self._answers.get(key)
        if answer is None:
            answer = asyncio.create_task(make(), name=f"write {key}")
            if len(self._answers) < KEPT:
                self._answers[key] = answer
        # Others wait for it, whoever goes away.
        return await asyncio.shield(answer)
