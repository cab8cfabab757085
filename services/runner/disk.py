"""Threads for what may hang: nothing that waits for a disk may keep the reflex waiting."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services.runner.beat import BeatFile

T = TypeVar("T")


class Disk:
    """One thread for the journal, in order, and one for the beat, which waits for no journal."""

    def __init__(self, beat: BeatFile) -> None:
        self._beat = beat
        self._journals = ThreadPoolExecutor(1, thread_name_prefix="runner-journal")
        self._beats = ThreadPoolExecutor(1, thread_name_prefix="runner-beat")
        self._beating: asyncio.Future[None] | None = None

    async def do(self, work: Callable[[], T]) -> T:
        """Do something and wait for it."""
        return await asyncio.get_running_loop().run_in_executor(self._journals, work)

    def later(self, work: Callable[[], None]) -> None:
        """Do something some time; nobody hears how it went."""
        self._journals.submit(work)

    def beat(self, at: float) -> OSError | None:
        """Write the beat unless the last one still hangs; return how the last one failed."""
        if self._beating is not None and not self._beating.done():
            return None
        error = self._beating.exception() if self._beating is not None else None
        write = functools.partial(self._beat.write, at)
        self._beating = asyncio.get_running_loop().run_in_executor(self._beats, write)
        # Nobody asks how the very last one went.
        self._beating.add_done_callback(lambda done: done.cancelled() or done.exception())
        return error if isinstance(error, OSError) else None

    async def first_beat(self, at: float) -> None:
        """Write the beat that supervisors need to begin with; may raise OSError."""
        write = functools.partial(self._beat.write, at)
        await asyncio.get_running_loop().run_in_executor(self._beats, write)

    def close(self) -> None:
        """Finish what was begun."""
        self._journals.shutdown()
        self._beats.shutdown()
        self._beat.close()
