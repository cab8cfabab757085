"""Two equal days on two GPUs, as in the month's story; counted once, and then only read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from services.recorder.store import Store
from tests.recorder.builders import url
from tests.recorder.test_month import INTERVAL, START, a_sample, event, record, settle

NOW = START + timedelta(days=2, hours=1)
_filled: set[str] = set()


async def fill(store: Store, days: int = 2) -> None:
    """Record days and count them."""
    every = [a_sample(START + INTERVAL * place) for place in range(1, days * 576 + 1)]
    both = [one.model_copy(update={"gpu": gpu}) for one in every for gpu in ("GPU-1", "GPU-2")]
    await record(store, [event(1, both)], NOW)
    await settle(store, START + timedelta(days=days + 1))


@asynccontextmanager
async def two_days(factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
    """A database that has them, the same for all tests; leave it as it is."""
    where = url(factory.getbasetemp() / "two days")
    async with Store(where) as store:
        if where not in _filled:
            await fill(store)
            _filled.add(where)
        yield store
