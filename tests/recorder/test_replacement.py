"""A damaged file is replaced while others read, or while the recorder is told to end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DatabaseError

from services.recorder import tables
from services.recorder.condition import ASIDE
from services.recorder.store import Store
from tests.builders import NOW
from tests.recorder.builders import an_event, count, numbers, url

DAMAGE = DatabaseError("SELECT 1", (), Exception("database disk image is malformed"))


async def test_who_reads_and_who_replaces_the_file_do_not_meet(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        await store.write(numbers(an_event(1)), now=NOW)
        async with asyncio.TaskGroup() as group:
            before = [group.create_task(count(store, tables.event)) for _ in range(4)]
            sizes = [group.create_task(store.used_bytes()) for _ in range(4)]
            # They are on their way, each in a thread of its own.
            await asyncio.sleep(0.002)
            group.create_task(store.begin_anew(DAMAGE))
            await asyncio.sleep(0)
            after = [group.create_task(count(store, tables.event)) for _ in range(4)]

        assert [one.result() for one in before] == [1, 1, 1, 1]
        assert all(size.result() > 0 for size in sizes)
        assert [one.result() for one in after] == [0, 0, 0, 0]
        assert len(store.kept_aside()) == 1


@pytest.mark.parametrize("steps", [1, 10, 30])
async def test_a_replacement_that_has_begun_is_done_to_its_end(tmp_path: Path, steps: int) -> None:
    async with Store(url(tmp_path)) as store:
        await store.write(numbers(an_event(1)), now=NOW)
        replacing = asyncio.create_task(store.begin_anew(DAMAGE))
        for _ in range(steps):
            await asyncio.sleep(0)
        replacing.cancel()
        await asyncio.wait([replacing])

        assert replacing.cancelled()
        assert store.is_open
        assert await count(store, tables.event) == 0


async def test_what_the_damaged_file_has_is_not_told_as_lost(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        await store.write(numbers(an_event(1), an_event(2), an_event(3)), now=NOW)
        await store.begin_anew(DAMAGE)

        await store.write(numbers(an_event(4, oldest=4)), now=NOW)
        assert (await store.condition()).lost_events == 0
        (gap,) = await store.read(select(tables.gap))
        assert (gap.first, gap.last, gap.reason) == (1, 3, ASIDE)

        # Of a stream that is known already: 5 and 6 the damaged file never had.
        await store.write(numbers(an_event(7, oldest=7)), now=NOW)
        assert (await store.condition()).lost_events == 2
