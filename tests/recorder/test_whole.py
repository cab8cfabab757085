"""Who is cancelled leaves nothing half done."""

from __future__ import annotations

import asyncio

import pytest

from services.recorder.storage.whole import whole


async def test_what_has_begun_is_done_before_it_is_cancelled() -> None:
    began, may_end, done = asyncio.Event(), asyncio.Event(), list[int]()

    @whole
    async def add(number: int) -> int:
        began.set()
        await may_end.wait()
        done.append(number)
        return number

    task = asyncio.create_task(add(1))
    await began.wait()
    task.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert done == [1]
    assert await add(2) == 2


async def test_what_fails_says_so() -> None:
    @whole
    async def fail() -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        await fail()
