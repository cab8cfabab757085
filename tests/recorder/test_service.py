"""From the bus into the database: once each, whatever comes."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from gleaner.bus.codec import encode
from gleaner.bus.interface import Delivery
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.messages import Event, HistoryAnswer, HistoryQuery, Recorded, RecorderState
from services.recorder import service
from services.recorder.schema import tables
from services.recorder.store import Store
from tests.builders import NOW, until
from tests.recorder.builders import an_event, count, numbers, recording, url


class System:
    """A recorder, a node that speaks, and what is heard of watermarks and answers."""

    def __init__(self, broker: MemoryBroker, store: Store, node: MemoryBus) -> None:
        self.broker = broker
        self.store = store
        self.node = node
        self.watermarks: dict[str, dict[str, int]] = {}
        self.latest: dict[str, set[str]] = {}
        self.answers: list[HistoryAnswer] = []

    def hear(self, delivery: Delivery) -> None:
        match delivery.message:
            case Recorded(node=node, streams=streams, latest=latest):
                self.watermarks[node] = streams
                self.latest[node] = set(latest)
            case HistoryAnswer() as answer:
                self.answers.append(answer)

    def raw(self, body: object, topic: str = "gleaner/v1/node/n1/event") -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.broker.publish(topic, payload, retain=False)

    async def watermark(self, number: int, stream: str = "s1", node: str = "n1") -> None:
        await until(lambda: self.watermarks.get(node, {}).get(stream) == number)


@pytest.fixture
async def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[System]:
    monkeypatch.setattr(service, "WATERMARK_SECONDS", 0.01)
    broker = MemoryBroker()
    async with Store(url(tmp_path)) as store, MemoryBus(broker, "node", "n1") as node:
        system = System(broker, store, node)
        node.subscribe(Recorded, system.hear)
        node.subscribe(HistoryAnswer, system.hear)
        bus = MemoryBus(broker, "recorder", "main")
        async with recording(bus, store), bus:
            yield system


async def test_an_event_is_kept_and_the_watermark_says_so(system: System) -> None:
    system.node.publish(an_event(1, data={"active": True}))

    await system.watermark(1)
    row = (await system.store.read(tables.named(tables.event)))[0]
    assert (row.node, row.stream, row.sequence, row.kind) == ("n1", "s1", 1, "people")
    assert json.loads(row.data) == {"active": True}


async def test_the_watermark_says_of_which_kinds_something_is_new(system: System) -> None:
    system.node.publish(an_event(1, kind="run", data={}))
    system.node.publish(an_event(2, kind="weather"))
    system.node.publish(an_event(1, node="n2", stream="s2", kind="people"))

    await system.watermark(2)
    await system.watermark(1, "s2", "n2")
    assert system.latest == {"n1": {"run", "other"}, "n2": {"people"}}


async def test_a_repeated_event_is_one_row(system: System) -> None:
    system.broker.copies = 2
    for number in (1, 2, 1, 2, 3):
        system.node.publish(an_event(number))

    await system.watermark(3)
    assert await count(system.store, tables.event) == 3


async def test_the_watermark_waits_for_the_missing_number(system: System) -> None:
    system.node.publish(an_event(1))
    system.node.publish(an_event(3))
    await system.watermark(1)

    system.node.publish(an_event(2))

    await system.watermark(3)


async def test_what_the_outbox_no_longer_has_is_a_known_gap(system: System) -> None:
    system.node.publish(an_event(1))
    system.node.publish(an_event(10, oldest=8))
    await system.watermark(7)
    system.node.publish(an_event(8, oldest=8))
    system.node.publish(an_event(9, oldest=8))

    await system.watermark(10)
    gaps = await system.store.read(select(tables.gap.c.first, tables.gap.c.last))
    assert [tuple(row) for row in gaps] == [(2, 7)]


async def test_a_kind_nobody_knows_is_kept(system: System) -> None:
    system.node.publish(an_event(kind="weather", data={"rain": [1, {"mm": 2.5}]}))

    await system.watermark(1)
    row = (await system.store.read(select(tables.event)))[0]
    assert (row.kind, json.loads(row.data)) == ("weather", {"rain": [1, {"mm": 2.5}]})


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json",
        b"[]",
        b"[" * 100_000,
        b'{"node":"n1"',
        (
            b'{"node":"n2","stream":"s1","sequence":1,"oldest_sequence":1,"kind":"x","data":{},'
            b'"boot_id":"b","at":"2026-01-01T00:00:00Z"}'
        ),
        b'{"stream":"s1","sequence":1e999}',
        b"\xff\xfe",
        b'{"node":"n1","at":"0001-01-01T00:00:00+14:00"}',
        b"x" * 1_100_000,
    ],
)
async def test_a_payload_that_is_no_event_harms_nobody(system: System, payload: bytes) -> None:
    system.raw(payload)
    system.node.publish(an_event(1))

    await system.watermark(1)
    assert await count(system.store, tables.event) == 1
    assert await count(system.store, tables.dead_letter) == (1 if payload else 0)


async def test_an_unreadable_event_with_a_number_does_not_hold_up_the_others(
    system: System,
) -> None:
    system.node.publish(an_event(1))
    broken = json.loads(encode(an_event(2)))
    system.raw(broken | {"at": "yesterday"})
    system.node.publish(an_event(3))

    await system.watermark(3)
    gaps = await system.store.read(select(tables.gap.c.first, tables.gap.c.reason))
    assert [tuple(row) for row in gaps] == [(2, "unreadable")]
    letter = (await system.store.read(select(tables.dead_letter)))[0]
    assert "at: " in letter.reason


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": 10**30},
        {"sequence": 0},
        {"oldest_sequence": 2},
        {"stream": "s" * 300},
        {"kind": "k\0"},
        {"boot_id": "b" * 300},
    ],
)
async def test_an_event_that_no_database_can_keep_is_set_aside(
    system: System, changes: dict[str, object]
) -> None:
    system.raw(json.loads(encode(an_event(1))) | changes)
    system.node.publish(an_event(1, stream="s2"))

    await system.watermark(1, "s2")
    assert await count(system.store, tables.event) == 1
    assert await count(system.store, tables.dead_letter) == 1


async def test_data_that_are_not_what_their_kind_promises_are_kept_as_they_came(
    system: System,
) -> None:
    system.node.publish(an_event(1, kind="run", data={"run": 7}))
    system.node.publish(an_event(2, kind="samples", data={"samples": [{"gpu": None}]}))

    await system.watermark(2)
    kept = await system.store.read(select(tables.event.c.data).order_by(tables.event.c.sequence))
    assert [json.loads(row.data) for row in kept] == [{"run": 7}, {"samples": [{"gpu": None}]}]


async def test_dead_letters_are_bounded(system: System) -> None:
    for _ in range(4):
        for number in range(400):
            system.raw(f"rubbish {number}".encode())
        system.node.publish(an_event(1))
        await system.watermark(1)
        system.watermarks.clear()

    assert await count(system.store, tables.dead_letter) == 1000


async def ask(system: System, **query: object) -> HistoryAnswer:
    said = len(system.answers)
    system.node.publish(
        HistoryQuery.model_validate(
            {
                "id": f"q{said}",
                "client": "cli",
                "what": "events",
                "expires_at": datetime.now(UTC) + timedelta(seconds=10),
            }
            | query
        )
    )
    await until(lambda: len(system.answers) > said)
    return system.answers[-1]


async def test_a_question_is_answered_newest_first(system: System) -> None:
    start = datetime.now(UTC) - timedelta(hours=1)
    for number in (1, 2, 3):
        system.node.publish(an_event(number, at=start + timedelta(seconds=number)))
    await system.watermark(3)

    answer = await ask(system, limit=2)

    assert [row["sequence"] for row in answer.rows] == [3, 2]
    rest = await ask(system, limit=2, cursor=answer.cursor)
    assert [row["sequence"] for row in rest.rows] == [1]
    assert rest.cursor is None


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ({"limit": 5000}, "limit is 5000; a page has 1 to 1000 rows"),
        ({"limit": 0}, "limit is 0; a page has 1 to 1000 rows"),
        ({"cursor": "rubbish"}, "the cursor is not one of this recorder's"),
        ({"cursor": "WzEsICJ4Il0="}, "the cursor is not one of this recorder's"),
        ({"cursor": "é"}, "the cursor is not one of this recorder's"),
        ({"what": "samples", "kind": "gpu"}, "kind goes with events and runs, not with samples"),
        ({"what": "sessions", "by": "day"}, "by goes with usage and points with series, "),
        ({"what": "usage", "user": "nobody1"}, "no user named 'nobody1' was ever recorded"),
        ({"what": "series", "node": "n9"}, "no node named 'n9' was ever recorded"),
    ],
)
async def test_a_question_that_makes_no_sense_is_told_so(
    system: System, query: dict[str, object], why: str
) -> None:
    assert ((await ask(system, **query)).error or "").startswith(why)


async def test_an_expired_question_is_not_answered(system: System) -> None:
    system.node.publish(
        HistoryQuery(
            id="late",
            client="cli",
            what="events",
            expires_at=datetime.now(UTC) - timedelta(seconds=1),
        )
    )

    assert (await ask(system)).id == "q0"
    assert len(system.answers) == 1


async def test_large_events_make_short_pages(system: System) -> None:
    for number in range(1, 6):
        system.node.publish(an_event(number, data={"text": "x" * 300_000}))
    await system.watermark(5)

    seen: list[object] = []
    cursor = None
    while True:
        answer = await ask(system, limit=1000, cursor=cursor)
        assert len(encode(answer)) < 1_000_000
        seen += [row["sequence"] for row in answer.rows]
        cursor = answer.cursor
        if cursor is None:
            break
    assert seen == [5, 4, 3, 2, 1]


async def test_a_repeat_of_an_event_that_was_deleted_by_age_is_still_a_repeat(
    system: System,
) -> None:
    old = datetime.now(UTC) - timedelta(days=800)
    event: Event = an_event(1, at=old)
    system.node.publish(event)
    await system.watermark(1)
    await system.store.change(tables.event.delete())

    system.node.publish(event)
    system.node.publish(an_event(2))

    await system.watermark(2)
    assert await count(system.store, tables.event) == 1


async def test_samples_that_wait_long_to_be_summed_up_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BEHIND", timedelta())
    broker, said = MemoryBroker(), list[RecorderState]()
    at = datetime.now(UTC) - timedelta(hours=1)
    data = {"samples": [{"gpu": "G", "index": 0, "state": "idle", "seconds": 1, "at": str(at)}]}
    async with Store(url(tmp_path)) as store, MemoryBus(broker, "node", "n1") as node:
        await store.write(numbers(an_event(1, kind="samples", data=data, at=at)), now=at)
        node.subscribe(RecorderState, lambda one: said.append(one.message))  # type: ignore[arg-type]
        bus = MemoryBus(broker, "recorder", "main")
        async with recording(bus, store), bus:
            await until(lambda: any(one.behind_since for one in said))
            await until(lambda: said[-1].behind_since is None)
            await until(lambda: said[-1].lost_events == 0)


async def test_how_history_is_kept_is_told_anew_when_something_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOOK_SECONDS", 0.05)
    broker, said = MemoryBroker(), list[RecorderState]()
    async with Store(url(tmp_path)) as store, MemoryBus(broker, "node", "n1") as node:
        node.subscribe(RecorderState, lambda one: said.append(one.message))  # type: ignore[arg-type]
        bus = MemoryBus(broker, "recorder", "main")
        async with recording(bus, store), bus:
            await until(lambda: bool(said) and said[-1].used_bytes is not None)
            assert not said[-1].oldest

            node.publish(an_event(3, oldest=3, at=NOW))

            await until(lambda: said[-1].oldest == {"events": NOW} and said[-1].lost_events == 2)
    told = [one.model_dump(exclude={"at"}) for one in said]
    assert all(one != after for one, after in itertools.pairwise(told))
