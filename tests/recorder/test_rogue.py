"""A node that says absurd things, or very many: nobody else is held up, or counted wrongly."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gleaner.bus.codec import encode
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.messages import Event
from services.recorder.accounts import accounting
from services.recorder.intake.progress import AHEAD, Progress
from services.recorder.intake.rows import rows_of
from services.recorder.schema import tables
from services.recorder.store import Store
from tests.builders import NOW, until
from tests.recorder.builders import an_event, count, numbers, recording, url
from tests.recorder.test_month import START, a_sample, event, record, rows, settle

Sample = dict[str, Any]
NOON = START + timedelta(hours=12)
LATER = NOON + timedelta(hours=1)
ABSURD: tuple[Sample, ...] = (
    {"seconds": -10},
    {"seconds": 0},
    {"seconds": 1e308},
    {"seconds": None},
    {"power_watts": 1e308},
    {"power_watts": -1},
    {"energy_used_joules": -1},
    {"memory_used_bytes": -1},
    {"energy_used_joules": 1e300},
    {"memory_used_bytes": 2**62},
    {"memory_used_bytes": 10**30},
    {"utilization_percent": "much"},
    {"at": "1970-01-01T00:00:10Z"},
    {"at": "1969-12-31T23:59:59Z"},
    {"at": "0001-01-01T00:00:00Z"},
    {"at": "9999-12-31T23:59:59Z"},
    {"at": "yesterday"},
    {"gpu": ""},
    {"gpu": "\0"},
    {"gpu": "g" * 300},
    {"state": None},
    {"users": [{"user": "eve"}]},
    {"index": "first"},
)


def gpu(number: int, at: datetime = NOON, **more: Any) -> Sample:
    return a_sample(at, f"GPU-{number}").model_dump(mode="json") | more


def said(
    number: int, samples: list[Any], node: str = "rogue", *, stream: str = "s1", **more: Any
) -> Event:
    data = {"samples": samples} | more
    return an_event(number, node=node, stream=stream, kind="samples", data=data, at=NOON)


@pytest.mark.parametrize("wrong", ABSURD, ids=str)
def test_one_bad_sample_takes_none_of_the_others_away(wrong: Sample) -> None:
    bad = gpu(0) | wrong
    made = rows_of(said(1, [*(gpu(number) for number in range(1, 48)), bad]), NOW)

    assert [row["gpu"] for row in made.samples] == [f"GPU-{number}" for number in range(1, 48)]
    assert made.event is not None
    assert json.loads(made.event["data"]) == {"samples": [bad]}


@pytest.mark.parametrize("wrong", [7, "samples", {"gpu": "GPU-1"}])
def test_what_is_no_list_of_samples_takes_none_of_the_host_away(wrong: Any) -> None:
    host = event(1, [a_sample(NOON)]).data["host"]
    made = rows_of(said(1, wrong, host=host), NOW)

    assert (len(made.samples), len(made.hosts)) == (0, 1)
    assert made.event is not None


def test_a_stream_whose_first_number_never_comes_is_not_waited_for_for_ever() -> None:
    progress, gaps = Progress().recorded(range(2, AHEAD + 2), 1)
    assert (progress.watermark, gaps) == (0, ())

    progress, gaps = progress.recorded([AHEAD + 2], 1)

    assert progress.watermark == AHEAD + 2
    assert [(gap.first, gap.last) for gap in gaps] == [(1, 1)]


def test_numbers_that_are_written_down_come_back_in_any_order() -> None:
    """A stream that goes backwards says nothing new, and takes nothing back."""
    progress, _ = Progress().recorded([1, 2, 3, 4, 5], 1)

    for number in (5, 3, 1):
        again, gaps = progress.recorded([number], 1)
        assert (again, gaps) == (progress, ())


async def test_made_up_numbers_leave_the_state_readable(tmp_path: Path) -> None:
    most = 2**53
    async with Store(url(tmp_path)) as store:
        events = [an_event(most, stream=f"s{number}", oldest=most) for number in range(1100)]
        await store.write(numbers(*events), now=NOW)

        assert (await store.condition()).lost_events == pytest.approx(1100 * most)


async def of_the_good_node(store: Store) -> list[Any]:
    """What is in the accounts of the good node: its hour, its use, its sessions."""
    found: list[Any] = []
    for table in (tables.sample_1d, tables.use_1d, tables.session):
        mine = select(tables.device.c.id).where(tables.device.c.gpu == "GPU-1")
        found += await rows(store, table, table.c.device.in_(mine))
    return [{name: one[name] for name in one if name != "id"} for one in found]


async def accounts_beside(
    tmp_path: Path, name: str, spoil: Callable[[Store], Any] | None = None
) -> list[Any]:
    """Return the accounts of a good node, beside somebody who spoils what he can."""
    async with Store(url(tmp_path / name)) as store:
        if spoil is not None:
            await spoil(store)
        good = [a_sample(NOON - timedelta(minutes=one)) for one in range(0, 30, 5)]
        await record(store, [event(1, good)], LATER)
        await settle(store, LATER)
        return await of_the_good_node(store)


async def as_much_as_is_believed(store: Store) -> None:
    """The most that counts, until sums are larger than a database's whole numbers."""
    most = {"seconds": 86_400, "memory_used_bytes": 2**50, "energy_used_joules": 1e10}
    host = {"at": NOON.isoformat(), "seconds": 86_400, "network_sent_bytes_per_second": 1e12}
    for number in range(1, 120):
        samples = [gpu(100 + one, **most, power_watts=1e6) for one in range(20)]
        hosts = [host | {"at": (NOON - timedelta(seconds=number)).isoformat()}]
        await record(store, [said(number, samples, host=hosts)], LATER)
    await settle(store, LATER)


async def thousands_of_gpus(store: Store) -> None:
    """From several nodes, of which none has the same twice."""
    for number in range(1, 3):
        samples = [gpu(number * 10_000 + one) for one in range(accounting.MOST_GPUS + 100)]
        await record(store, [said(number, samples, f"rogue{number}")], LATER)


async def the_same_number_with_something_else(store: Store) -> None:
    for seconds in (10, 20, 30):
        await record(store, [said(1, [gpu(100, seconds=seconds)])], LATER)
    ((found,),) = await store.read(select(tables.sample.c.data).limit(2))
    assert "10" in found


async def hundreds_of_users(store: Store) -> None:
    users = [{"user": f"user{one}", "processes": 1} for one in range(1000)]
    await record(store, [said(1, [gpu(100, users=users) for _ in range(5)])], LATER)


async def a_clock_that_is_ahead(store: Store) -> None:
    for number, days in ((1, 1), (2, 3650)):
        sample = gpu(100, NOON + timedelta(days=days))
        await record(store, [said(number, [sample])], LATER)
    await settle(store, LATER)
    assert await rows(store, tables.sample_1d) == []


@pytest.mark.sqlite
async def test_five_minutes_that_a_disk_has_changed_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def damage(store: Store) -> None:
        await record(store, [said(1, [gpu(100)])], LATER)
        with closing(sqlite3.connect(store.name)) as file, file:
            file.execute("UPDATE sample SET data = x'01ffffff'")

    alone = await accounts_beside(tmp_path, "alone")

    assert await accounts_beside(tmp_path, "beside", damage) == alone
    assert "what rogue sampled in the five minutes from 2026-03-01 11:55 UTC" in caplog.text


@pytest.mark.parametrize(
    "spoil",
    [
        as_much_as_is_believed,
        thousands_of_gpus,
        the_same_number_with_something_else,
        hundreds_of_users,
        a_clock_that_is_ahead,
    ],
)
async def test_the_accounts_of_others_are_right_beside(
    tmp_path: Path, spoil: Callable[[Store], Any]
) -> None:
    alone = await accounts_beside(tmp_path, "alone")

    assert alone
    assert await accounts_beside(tmp_path, "beside", spoil) == alone


async def test_thousands_of_absurd_events_hold_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.recorder.service.WATERMARK_SECONDS", 0.01)
    broker, places = MemoryBroker(), itertools.count(1)
    deep: Any = "at the bottom"
    for _ in range(100):
        deep = [deep]
    async with Store(url(tmp_path)) as store, MemoryBus(broker, "node", "n1") as node:
        bus = MemoryBus(broker, "recorder", "main")
        async with recording(bus, store), bus:
            for wrong in ABSURD * 40:
                place = next(places)
                samples = [gpu(0) | wrong, gpu(1, NOON, users=deep)]
                node.publish(said(place, samples, stream=f"s{place % 50}"))
                node.publish(an_event(place, node="rogue", kind="run", data={"gpus": deep}))
                # Backwards, and the same number with something else in it.
                node.publish(an_event(5000 - place, node="rogue", stream="back"))
                node.publish(an_event(1, node="rogue", stream="same", data={"x": place}))
                # Two machines with one name.
                node.publish(an_event(place, node="n1", stream=f"of machine {place % 2}", oldest=1))
            for number in range(1, 11):
                node.publish(an_event(number, node="good", at=datetime.now(UTC)))

            await until(lambda: store.recorded("good") == {"s1": 10})
            same = select(tables.event.c.data).where(tables.event.c.data == '{"x":1}')
            assert len(await store.read(same)) == 1


async def test_texts_that_no_database_takes_stop_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.recorder.service.WATERMARK_SECONDS", 0.01)
    broker, whole = MemoryBroker(), json.loads(encode(an_event(1, node="rogue")))
    async with Store(url(tmp_path)) as store, MemoryBus(broker, "node", "n1") as node:
        bus = MemoryBus(broker, "recorder", "main")
        async with recording(bus, store), bus:
            for name, text in itertools.product(whole, ('"\\u0000"', '"\\ud800"', "1e999", "{}")):
                bad = json.dumps(whole | {name: "@"}).replace('"@"', text)
                broker.publish("gleaner/v1/node/rogue/event", bad.encode(), retain=False)
            broker.publish("gleaner/v1/node/ro\0gue/event", b"{}", retain=False)
            for number, text in enumerate(("\0", "\x1b[31m", "\u202e", "x" * 5000), 2):
                names = {"user": text, "entry": text, "reason": text, "run": text, "gpu": text}
                for kind in ("run", "people", "gpu", "problem", text[:100]):
                    node.publish(
                        an_event(number, node="rogue", stream=kind, kind=kind, data={**names})
                    )
            node.publish(an_event(1, node="good"))

            await until(lambda: store.recorded("good") == {"s1": 1})
            async with asyncio.timeout(10):
                while await count(store, tables.dead_letter) < 30:
                    await asyncio.sleep(0.01)
