"""Who reads a database, and keeping them out while its file is exchanged for another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Readers:
    """Any number beside each other; nobody while somebody needs to be alone."""

    def __init__(self) -> None:
        self._count = 0
        self._may_come = asyncio.Event()
        self._may_come.set()
        self._are_gone = asyncio.Event()
        self._are_gone.set()

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Be one of them, as soon as nobody keeps them out."""
        while not self._may_come.is_set():
            await self._may_come.wait()
        self._count += 1
        self._are_gone.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._are_gone.set()

    @contextlib.asynccontextmanager
    async def kept_out(self) -> AsyncIterator[None]:
        """Let those who read end, and nobody begin; one caller at a time."""
        self._may_come.clear()
        try:
            await self._are_gone.wait()
            yield
        finally:
            self._may_come.set()
