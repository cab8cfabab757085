"""The stream: a snapshot, then only what changed, at once or each second."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import JsonValue

from gleaner.bus.messages import HistoryAnswer
from services.web.questions import Questions
from services.web.shown.show import with_readings
from services.web.shown.view import Snapshot
from services.web.streaming import live, stream
from services.web.streaming.recall import recall
from tests.web.conftest import Web


class Reader:
    """Reads a stream's events."""

    def __init__(self, web: Web, last_event_id: str | None = None) -> None:
        self._events: AsyncIterator[bytes] = web.live.events(last_event_id)
        self.last_id = ""

    async def next(self, seconds: float = 2) -> tuple[str, dict[str, Any]]:
        async with asyncio.timeout(seconds):
            event = await anext(self._events)
        fields = dict(line.split(": ", 1) for line in event.decode().strip().splitlines())
        self.last_id = fields["id"]
        return fields["event"], json.loads(fields["data"])

    async def is_over(self) -> bool:
        async with asyncio.timeout(2):
            return await anext(self._events, None) is None


async def test_the_first_event_is_everything(busy: Web) -> None:
    kind, snapshot = await Reader(busy).next()

    told = Snapshot.model_validate_json(json.dumps(snapshot))
    readings = {one.node: one for one in told.readings}
    nodes = tuple(with_readings(node, readings[node.node]) for node in told.nodes)
    assert kind == "snapshot"
    assert told.model_copy(update={"nodes": nodes, "readings": ()}) == busy.live.snapshot()


async def test_who_takes_gzip_gets_the_same_whenever_he_comes(
    busy: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "LARGE_BYTES", 20_000)  # so that the snapshot is packed aside
    plain, early = busy.live.events(), busy.live.events(packed=True)
    told, unpacked = await anext(plain), zlib.decompressobj(31)
    assert unpacked.decompress(await anext(early) + await anext(early)) == told

    await busy.say([busy.example().state("atlas", 4, "busy", "eve computes (pid 1)", seconds=0)])
    changed = await anext(plain)
    since = told.decode().splitlines()[0].removeprefix("id: ")
    late, unpacked_late = busy.live.events(since, packed=True), zlib.decompressobj(31)

    assert unpacked.decompress(await anext(early)) == changed
    assert unpacked_late.decompress(await anext(late) + await anext(late)) == changed


async def test_a_changed_gpu_goes_out_at_once_with_its_node_only(busy: Web) -> None:
    reader = Reader(busy)
    await reader.next()
    started = time.monotonic()

    await busy.say([busy.example().state("atlas", 4, "busy", "eve computes (pid 1)", seconds=0)])
    kind, delta = await reader.next()

    assert time.monotonic() - started < 0.5
    assert kind == "delta"
    assert [node["node"] for node in delta["nodes"]] == ["atlas"]
    assert delta["nodes"][0]["gpus"][4]["state"] == "busy"
    assert delta["overview"]["headline"] == "8 of 23 GPUs free"


async def test_readings_wait_for_the_tick_and_travel_as_numbers(busy: Web) -> None:
    reader = Reader(busy)
    await reader.next()

    rows = [(50.0 + index, 1.0, 40.0, 100.0) for index in range(8)]
    await busy.say([busy.example().telemetry("atlas", rows, 80)])
    with pytest.raises(TimeoutError):
        await reader.next(0.1)
    again = Reader(busy, reader.last_id)
    busy.live.flush()
    _, delta = await again.next()

    assert delta["nodes"] == []
    assert delta["overview"] is None
    assert delta["readings"][0]["node"] == "atlas"
    assert delta["readings"][0]["gpus"][1] == [51.0, 2**30, 40.0, 100.0, None]


async def test_readings_put_into_a_node_are_what_a_snapshot_says(busy: Web) -> None:
    before = {node.node: node for node in busy.live.snapshot().nodes}["atlas"]
    await busy.say([busy.example().telemetry("atlas", [(1, 2, 3, 4)] * 8, 80)])

    after = {node.node: node for node in busy.live.snapshot().nodes}["atlas"]

    assert with_readings(before, busy.live.moment().readings["atlas"]) == after
    assert after.gpus[0].utilization_percent == 1


async def test_the_tick_notices_what_grew_old(busy: Web) -> None:
    reader = Reader(busy)
    await reader.next()
    ticking = asyncio.create_task(busy.live.run())

    busy.later(11)
    _, delta = await reader.next()

    assert {node["presence"] for node in delta["nodes"]} == {"stale"}
    ticking.cancel()
    await asyncio.wait([ticking])
    assert await reader.is_over()


async def test_who_comes_back_gets_what_was_missed(busy: Web) -> None:
    reader = Reader(busy)
    await reader.next()
    for seconds in (1, 2):
        await busy.say([busy.example().state("atlas", 4, "busy", "eve", seconds=seconds)])
        busy.live.flush()

    again = Reader(busy, reader.last_id)

    assert [(await again.next())[0] for _ in range(2)] == ["delta", "delta"]


async def test_who_comes_back_from_another_life_gets_a_snapshot(busy: Web) -> None:
    for unknown in ("other-3", "nonsense", f"{busy.live._stream._life}-99999", ""):
        assert (await Reader(busy, unknown).next())[0] == "snapshot"


async def test_who_cannot_keep_up_gets_a_snapshot_instead(busy: Web) -> None:
    reader = Reader(busy)
    await reader.next()

    for count in range(stream.QUEUED_EVENTS + 2):
        await busy.say([busy.example().state("atlas", 4, "busy", f"eve {count}", seconds=1)])
        busy.live.flush()

    kind, snapshot = await reader.next()
    atlas = next(node for node in snapshot["nodes"] if node["node"] == "atlas")
    assert kind == "snapshot"
    assert atlas["gpus"][4]["reasons"] == [f"eve {stream.QUEUED_EVENTS + 1}"]


async def test_an_event_is_encoded_once_for_all(busy: Web) -> None:
    readers = [busy.live.events() for _ in range(3)]
    snapshots = [await anext(reader) for reader in readers]
    await busy.say([busy.example().state("atlas", 4, "busy", "eve", seconds=1)])
    busy.live.flush()
    deltas = [await anext(reader) for reader in readers]

    assert len({id(event) for event in snapshots}) == 1
    assert len({id(event) for event in deltas}) == 1


async def test_a_node_that_was_removed_is_gone(busy: Web) -> None:
    reader = Reader(busy)
    await reader.next()
    example = busy.example()

    for message in example.draco():
        busy.others.clear(type(message), **message.levels())
    await busy.say([])
    busy.live.flush()
    seen = [await reader.next()]
    while not seen[-1][1]["gone"] and len(seen) < 5:
        seen.append(await reader.next())

    assert seen[-1][1]["gone"] == ["draco"]
    assert "draco" not in [node.node for node in busy.live.snapshot().nodes]


async def test_the_lost_broker_is_said(busy: Web) -> None:
    reader = Reader(busy)
    await reader.next()

    busy.bus.disconnect()

    assert (await reader.next())[1]["overview"]["connected"] is False


async def test_a_quiet_fleet_still_says_that_it_lives(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "TICK_SECONDS", 0.005)
    reader = Reader(web)
    await reader.next()
    ticking = asyncio.create_task(web.live.run())

    kind, delta = await reader.next()

    assert (kind, delta["nodes"], delta["overview"]) == ("delta", [], None)
    ticking.cancel()
    await asyncio.wait([ticking])


async def test_evictions_from_before_a_restart_are_recalled(web: Web) -> None:
    left = web.example().evicted("atlas", "fold-1", "fold", 0, "alice is active at pts/3")
    data = left.model_dump(mode="json", exclude={"node"})
    rows: tuple[dict[str, JsonValue], ...] = (
        {"node": "atlas", "kind": "run", "data": data},
        {"node": "atlas", "kind": "run", "data": {"run": "half"}},
        {"node": "atlas", "kind": "run"},
    )
    web.answer_queries(HistoryAnswer(client="web", id="", rows=rows))

    await recall(web.live, Questions(web.bus))

    (run,) = web.live.snapshot().overview.evictions
    assert (run.run, run.cause) == ("fold-1", "alice is active at pts/3")


async def test_who_recalls_asks_again_until_the_recorder_answers(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.web.streaming.recall.RETRY_SECONDS", 0.01)
    recalling = asyncio.create_task(recall(web.live, Questions(web.bus, 0.01)))
    await asyncio.sleep(0.05)

    web.answer_queries(HistoryAnswer(client="web", id=""))

    await asyncio.wait_for(recalling, 2)
