"""The recorder over a real mosquitto: what it does not acknowledge comes again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from gleaner.bus.codec import encode
from gleaner.bus.connection import Connection
from gleaner.bus.interface import Delivery
from gleaner.bus.link import UNACKNOWLEDGED
from gleaner.bus.local import NodeBus
from gleaner.bus.message import Writer
from gleaner.bus.messages import (
    Event,
    EventKind,
    HistoryAnswer,
    HostReading,
    Recorded,
    RecorderState,
    Telemetry,
)
from gleaner.bus.mqtt import MqttBus
from gleaner.bus.outbox import Outbox
from services.recorder import service
from services.recorder.daily_file import DailyFiles
from services.recorder.schema import tables
from services.recorder.store import Store
from tests.builders import NOW, until
from tests.disks import small_disk
from tests.mosquitto import Mosquitto
from tests.recorder.builders import a_query, an_event, count, recording, url

pytestmark = pytest.mark.broker


@asynccontextmanager
async def running(bus: MqttBus) -> AsyncIterator[MqttBus]:
    task = asyncio.create_task(bus.run())
    try:
        await until(lambda: bus.connected)
        yield bus
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def broker(mosquitto: Mosquitto) -> Mosquitto:
    mosquitto.forget()
    return mosquitto


@asynccontextmanager
async def recorder(broker: Mosquitto, store: Store) -> AsyncIterator[MqttBus]:
    bus = MqttBus(Connection(url=broker.url), "recorder", "main", durable=True)
    async with recording(bus, store), running(bus):
        yield bus


async def test_malformed_payloads_do_not_stop_the_others(broker: Mosquitto, tmp_path: Path) -> None:
    node = MqttBus(Connection(url=broker.url), "node", "n1")
    bodies = [
        b"not json",
        b"\x00\xff",
        encode(an_event(1, node="n2")),
        json.dumps(json.loads(encode(an_event(1))) | {"sequence": "one"}).encode(),
        encode(an_event(1, kind="a kind nobody knows", data={"x": [1, None]})),
    ]
    async with Store(url(tmp_path)) as store, recorder(broker, store), running(node):
        assert node._link
        for body in bodies:
            node._link.publish("gleaner/v1/node/n1/event", body, 1, retain=False)

        await until(lambda: store.recorded("n1") == {"s1": 1})
        (row,) = await store.read(select(tables.event.c.kind))
        assert row.kind == "a kind nobody knows"
        assert await count(store, tables.dead_letter) == 4


async def test_what_came_while_it_was_away_is_delivered_by_its_session(
    broker: Mosquitto, tmp_path: Path
) -> None:
    node = MqttBus(Connection(url=broker.url), "node", "n1")
    async with Store(url(tmp_path)) as store, running(node):
        async with recorder(broker, store):
            pass
        for number in range(1, 1001):
            node.publish(an_event(number))
        assert await node.deliver(an_event(1001)) is None

        async with recorder(broker, store):
            await until(lambda: store.recorded("n1") == {"s1": 1001})


async def test_what_was_not_acknowledged_comes_again(broker: Mosquitto) -> None:
    node = MqttBus(Connection(url=broker.url), "node", "n1")
    first = MqttBus(Connection(url=broker.url), "recorder", "main", durable=True)
    again = MqttBus(Connection(url=broker.url), "recorder", "main", durable=True)
    heard: list[int] = []
    first.subscribe(Event, lambda one: heard.append(one.message.sequence))  # type: ignore[union-attr]
    again.subscribe(Event, lambda one: one.acknowledge())
    again.subscribe(Event, lambda one: heard.append(one.message.sequence))  # type: ignore[union-attr]
    async with running(node):
        async with running(first):
            for number in (1, 2, 3):
                node.publish(an_event(number))
            await until(lambda: heard == [1, 2, 3])
        heard.clear()

        async with running(again):
            await until(lambda: heard == [1, 2, 3])
        heard.clear()

        async with running(again):
            assert await node.deliver(an_event(4)) is None
            await until(lambda: heard == [4])


async def test_a_backlog_of_ten_thousand_is_drained(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Once a second a watermark frees the way for 500 more: 20 s in real life.
    monkeypatch.setattr(service, "WATERMARK_SECONDS", 0.05)
    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        remote = MqttBus(Connection(url=broker.url), "node", "n1")
        bus = NodeBus("n1", "boot", remote, outbox, frozenset({Writer.COLLECTOR}))
        for number in range(10_000):
            bus.record(EventKind.PROBLEM, {"what": "test", "text": str(number)})
        async with Store(url(tmp_path)) as store, recorder(broker, store), running(remote):
            sending = asyncio.create_task(bus.run())
            await until(lambda: bus.unrecorded == 0, 30)
            sending.cancel()
            await asyncio.wait([sending])

            assert await count(store, tables.event) == 10_000
            assert await count(store, tables.gap) == 0


async def test_what_a_broker_took_while_it_knew_of_no_recorder_is_not_lost(
    broker: Mosquitto, tmp_path: Path
) -> None:
    with Outbox(None) as outbox:
        remote = MqttBus(Connection(url=broker.url), "node", "n1")
        bus = NodeBus("n1", "boot", remote, outbox, frozenset({Writer.COLLECTOR}))
        async with Store(url(tmp_path)) as store, running(remote):
            sending = asyncio.create_task(bus.run())
            for number in range(50):
                bus.record(EventKind.PROBLEM, {"what": "test", "text": str(number)})
            await until(lambda: bus._sent == {outbox.stream: 50})
            # A round trip later the broker has thrown all of them away.
            assert await remote.deliver(an_event(1, stream="another")) is None

            async with recorder(broker, store):
                await until(lambda: bus.unrecorded == 0, 3)

            sending.cancel()
            await asyncio.wait([sending])
            assert store.recorded("n1") == {outbox.stream: 50}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    with small_disk(tmp_path / "disk", "2m") as path:
        yield path


async def test_a_full_disk_is_named_and_when_there_is_room_nothing_is_missing(
    broker: Mosquitto,
    disk: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "RETRY_SECONDS", (0.05, 0.05))
    node = MqttBus(Connection(url=broker.url), "node", "n1")
    watermarks, states = list[int](), list[RecorderState]()
    node.subscribe(Recorded, lambda one: watermarks.append(one.message.streams["s1"]))  # type: ignore[union-attr]
    node.subscribe(RecorderState, lambda one: states.append(one.message))  # type: ignore[arg-type]
    async with Store(url(disk)) as store, recorder(broker, store), running(node):
        node.publish(an_event(1))
        await until(lambda: watermarks == [1])
        found = os.statvfs(disk)
        (disk / "filler").write_bytes(b"x" * (found.f_bavail * found.f_frsize))
        for number in range(2, 702):
            node.publish(an_event(number, data={"text": "x" * 1000}))
        await until(lambda: "nothing is recorded until" in caplog.text)
        await until(lambda: states[-1].problem is not None)
        assert f"{store.name}: database or disk is full" in caplog.text
        assert await count(store, tables.event) <= 701
        assert max(watermarks) < 701

        (disk / "filler").unlink()

        await until(lambda: watermarks[-1] == 701)
        assert await count(store, tables.event) == 701
        assert "nothing was lost" in caplog.text
        # Long before it would look anyway.
        await until(lambda: states[-1].problem is None and "events" in states[-1].oldest)


async def test_questions_are_answered_while_nothing_can_be_written(
    broker: Mosquitto, tmp_path: Path
) -> None:
    node = MqttBus(Connection(url=broker.url), "node", "n1")
    answers: list[Delivery] = []
    node.subscribe(HistoryAnswer, answers.append)
    async with Store(url(tmp_path)) as store, recorder(broker, store), running(node):
        path = tmp_path / "recorder" / "gleaner.sqlite"
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as other:
            other.execute("BEGIN IMMEDIATE")
            # More than a broker hands out before the first is acknowledged.
            for number in range(1, 501):
                node.publish(an_event(number))
            assert await node.deliver(an_event(501)) is None
            node.publish(a_query(expires_at=datetime.now(UTC) + timedelta(seconds=9)))

            await until(lambda: answers != [])
        await until(lambda: store.recorded("n1") == {"s1": 501}, seconds=20)


async def test_daily_files_do_not_keep_events_waiting(broker: Mosquitto, tmp_path: Path) -> None:
    node = MqttBus(Connection(url=broker.url), "node", "n1")
    async with Store(url(tmp_path)) as store, running(node):
        bus = MqttBus(Connection(url=broker.url), "recorder", "main", durable=True)
        DailyFiles(bus, tmp_path, 5, None)
        telemetry = Telemetry(node="n1", gpus=(), host=HostReading(), interval_seconds=1, at=NOW)
        async with recording(bus, store), running(bus):
            for _ in range(UNACKNOWLEDGED + 1):
                node.publish(telemetry)
            # One by one: where it reads no more than one packet at a time, that takes minutes.
            for number in range(1, 51):
                assert await node.deliver(an_event(number)) is None
                await _recorded(store, number)


async def _recorded(store: Store, number: int) -> None:
    await until(lambda: store.recorded("n1") == {"s1": number}, seconds=3)
