"""Retention by size: what goes first, what stays, and that the room is given back."""

from __future__ import annotations

import logging
import os
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.messages import Recorded
from services.recorder import service
from services.recorder.schema import tables
from services.recorder.storage import connect
from services.recorder.store import Store
from services.recorder.upkeep import tidy
from services.recorder.upkeep.limit import ALWAYS_KEPT, Kept, Limit, horizons
from services.recorder.upkeep.retention import Retention
from services.recorder.upkeep.tidy import Tidying
from tests.builders import NOW, until
from tests.recorder.builders import an_event, count, hours_of, recording, url
from tests.recorder.test_month import a_sample, event, record, rows, settle

pytestmark = pytest.mark.real

LONG = Retention(
    samples=timedelta(days=30), events=timedelta(days=731), five_minutes=timedelta(days=90)
)
AGE = timedelta(days=36500)
FOR_EVER = Retention(samples=AGE, events=AGE, five_minutes=AGE, hours=AGE)
DAYS = 4


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidy, "PAUSE_SECONDS", 0)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with small pages: so few rows fill few large ones."""
    monkeypatch.setattr(connect, "PAGE_BYTES", 4096)
    return url(tmp_path, with_tables=False)


async def fill(store: Store, *, notes: int = 160) -> None:
    """Four days of samples, and the same of events with something to say."""
    first = NOW - timedelta(days=DAYS)
    apart = timedelta(minutes=7.5)
    # What is the same all along is stored in nearly nothing.
    noise = random.Random(1)
    for place in range(DAYS * 4):
        begin = first + timedelta(hours=6 * place)
        samples = [a_sample(begin + apart * n, gpu) for n in range(48) for gpu in ("G1", "G2")]
        said = [
            an_event(
                place * 1000 + n, stream="s2", at=begin, data={"text": noise.randbytes(500).hex()}
            )
            for n in range(1, notes // DAYS // 4 + 1)
        ]
        await record(store, [event(place + 1, samples), *said], NOW)
    await settle(store, NOW + timedelta(minutes=30))
    await store.reuse([tables.sample, tables.event, tables.sample_5m, tables.stretch])


async def test_samples_go_first_and_what_sums_say_stays(
    small: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Store(small) as store:
        await fill(store)
        before = await store.used_bytes()
        kept = [await rows(store, table) for table in (tables.sample_1d, tables.session)]
        samples = await count(store, tables.sample)
        tidying = Tidying(store, LONG, Limit(max_bytes=before - 1))

        await tidying.tidy(NOW)

        assert await store.used_bytes() <= before * 0.9
        assert 0 < await count(store, tables.sample) < samples
        assert [*tidying.shortened] == [Kept.SAMPLES]
        now = [await rows(store, table) for table in (tables.sample_1d, tables.session)]
        assert now == kept
        told = [one for one in caplog.records if one.levelno == logging.WARNING]
        assert len(told) == 1
        assert "samples go before their time" in told[0].message

        await tidying.tidy(NOW)
        assert len(caplog.records) == 1


async def test_where_samples_are_not_enough_sums_of_five_minutes_and_events_follow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Store(url(tmp_path)) as store:
        await fill(store)
        days = await rows(store, tables.sample_1d)
        tidying = Tidying(store, LONG, Limit(max_bytes=10_000))

        await tidying.tidy(NOW)

        assert [*tidying.shortened] == [*Kept]
        for kept, at in tidying.shortened.items():
            assert at == NOW - ALWAYS_KEPT[kept]
        assert await rows(store, tables.sample_1d) == days
        assert len(await hours_of(store)) > DAYS * 20
        assert 0 < await count(store, tables.event) < 4 * 20
        assert "allow for more" in caplog.text


async def test_a_repeat_of_what_went_before_its_time_does_not_count_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "WATERMARK_SECONDS", 0.0)
    broker, said = MemoryBroker(), list[Recorded]()
    begin = NOW - timedelta(days=DAYS)
    first = event(1, [a_sample(begin + timedelta(minutes=15) * n) for n in range(24)])
    async with Store(url(tmp_path)) as store:
        await record(store, [first], NOW)
        await settle(store, NOW)
        days = await rows(store, tables.sample_1d)
        await Tidying(store, FOR_EVER, Limit(max_bytes=10_000)).tidy(NOW)
        assert await count(store, tables.sample) == 0

    async with Store(url(tmp_path)) as store, MemoryBus(broker, "node", "n1") as node:
        node.subscribe(Recorded, lambda one: said.append(one.message))  # type: ignore[arg-type]
        bus = MemoryBus(broker, "recorder", "main")
        async with recording(bus, store, FOR_EVER), bus:
            node.publish(first)
            node.publish(an_event(2))
            await until(lambda: any(one.streams == {"s1": 2} for one in said))
        await settle(store, NOW)

        assert await rows(store, tables.sample_1d) == days


@pytest.mark.sqlite
async def test_the_file_shrinks_in_small_steps(small: str) -> None:
    async with Store(small) as store:
        await fill(store, notes=960)
        size = await store.used_bytes()

        await Tidying(store, LONG, Limit(max_bytes=size * 2 // 5)).tidy(NOW)

    assert os.stat(store.name).st_size < size / 2


@pytest.mark.sqlite
async def test_what_is_old_gives_its_room_back_too(small: str) -> None:
    short = Retention(samples=timedelta(hours=1), events=timedelta(hours=1))
    async with Store(small) as store:
        await fill(store, notes=960)
        size = await store.used_bytes()

        await Tidying(store, short).tidy(NOW)

    assert os.stat(store.name).st_size < size / 2


def test_nothing_of_the_last_hour_or_day_is_ever_taken() -> None:
    for kept in Kept:
        found = horizons(kept, NOW - timedelta(days=9), NOW)
        assert found == sorted(found)
        assert len(found) == 10
        assert found[-1] == NOW - ALWAYS_KEPT[kept]


@pytest.mark.parametrize("oldest", [None, NOW, NOW - timedelta(minutes=59)])
def test_where_there_is_nothing_old_nothing_is_taken(oldest: Any) -> None:
    assert horizons(Kept.SAMPLES, oldest, NOW) == []
