"""Events as lines; those of the past, and those that follow."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.interface import Delivery
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.messages import Event, HistoryAnswer, HistoryQuery
from gleaner.cli.history.events import Following, Found, Row, Wish, describe, history_of
from gleaner.cli.history.past import hear_inventories
from gleaner.client import Client, NeverRecorded, RequestFailed
from gleaner.fleet import Fleet
from tests.builders import NOW
from tests.web.example import Example


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        (
            "gpu",
            {"index": 0, "before": "idle", "state": "busy", "reasons": ["user1 computes"]},
            "GPU 0: idle → busy (user1 computes)",
        ),
        ("gpu", {"index": 1, "state": "idle"}, "GPU 1: idle"),
        (
            "people",
            {"active": True, "reason": "user1 is active at pts/3"},
            "user1 is active at pts/3",
        ),
        (
            "run",
            {"run": "r1", "entry": "fold", "reason": "evicted: user1 is active at pts/3"},
            "run r1 of fold: evicted: user1 is active at pts/3",
        ),
        (
            "problem",
            {"what": "nvml", "text": "no answer within 3 s"},
            "problem: no answer within 3 s",
        ),
        (
            "short_process",
            {"index": 1, "pid": 7, "user": "user1", "command": "python", "entry": None},
            "GPU 1: user1 computed briefly (pid 7, python)",
        ),
        (
            "short_process",
            {"index": 1, "pid": 7, "user": None, "command": None, "entry": None},
            "GPU 1: somebody computed briefly (pid 7, no longer known)",
        ),
        ("overflow", {"dropped": 3}, "3 events were dropped: nobody recorded them"),
        ("node_started", {"version": "0.1.0", "source": "nvml"}, "version 0.1.0, source nvml"),
        ("node_started", {"uptime_seconds": 41}, ", 41 s after its host was booted"),
        ("of_tomorrow", {"a": 1}, "of_tomorrow a=1"),
    ],
)
def test_an_event_is_a_line(kind: str, data: dict[str, Any], text: str) -> None:
    row = {"at": "2026-11-21T12:00:00.123Z", "node": "n1", "kind": kind, "data": data}

    assert describe(row).startswith("2026-11-21 12:00:00  n1  ")
    assert describe(row).endswith(text)


def test_an_event_without_data_is_still_told() -> None:
    assert describe({"at": "2026-11-21T12:00:00Z", "node": "n1", "kind": "people"}).endswith(
        "people came or went"
    )


def event(sequence: int, node: str = "sim-0", kind: str = "people", **data: Any) -> Event:
    return Event(
        node=node, stream=f"of {node}", sequence=sequence, oldest_sequence=1, kind=kind,
        data={"reason": f"{sequence}", **data}, boot_id="b", at=NOW,
    )  # fmt: skip


def heard(sequence: int, **more: Any) -> Delivery:
    said = event(sequence, **more)
    return Delivery(message_type=Event, levels={"node": said.node}, message=said, retained=False)


@contextlib.asynccontextmanager
async def recorder(
    recorded: list[Event], looked_back_to: datetime | None = None
) -> AsyncIterator[tuple[Client, Fleet]]:
    """A recorder that has this, newest first, beside a real and a simulated node."""
    broker = MemoryBroker()
    bus, own = MemoryBus(broker, "recorder", "main"), MemoryBus(broker)

    def answer(delivery: Delivery) -> None:
        query = delivery.message
        assert isinstance(query, HistoryQuery)
        rows = [one.model_dump(mode="json") for one in recorded[::-1][: query.limit]]
        bus.publish(
            HistoryAnswer(
                client=query.client, id=query.id, rows=tuple(rows), looked_back_to=looked_back_to
            )
        )

    bus.subscribe(HistoryQuery, answer)
    async with bus, Client(Connection(url="mqtt://none"), "cli", bus=own) as client, own:
        for node, source in (("atlas", "nvml"), ("sim-0", "simulated")):
            bus.publish(Example(NOW).inventory(node, "H100", 1, 80, notices="check", source=source))
        fleet = Fleet()
        hear_inventories(own, fleet)
        yield client, fleet


async def test_what_never_really_happened_is_marked() -> None:
    told = [
        event(1, "atlas"),
        event(2, "sim-0"),
        event(3, "gone"),
        event(4, "atlas", "run", run="r1", simulated=True),
    ]
    async with recorder(told) as (client, fleet):
        found = await history_of(client, fleet, Wish(limit=9))

    assert [row["simulated"] for row in found.rows] == [False, True, None, True]
    assert [describe(row).split("  ")[1] for row in found.rows] == [
        "atlas",
        "sim-0 (simulated)",
        "gone",
        "atlas (simulated)",
    ]


async def test_the_newest_come_oldest_first_and_it_is_said_where_there_are_more() -> None:
    async with recorder([event(n) for n in range(1, 6)]) as (client, fleet):
        some = await history_of(client, fleet, Wish(limit=2, since=NOW))
        every = await history_of(client, fleet, Wish(limit=5, since=NOW))

    assert [row["sequence"] for row in some.rows] == [4, 5]
    assert [row["sequence"] for row in every.rows] == [1, 2, 3, 4, 5]
    assert some.asides == ("there are more since then; these are the newest 2, see -n",)
    assert every.asides == ()


async def test_how_far_back_was_searched_is_said() -> None:
    async with recorder([event(1)], looked_back_to=NOW) as (client, fleet):
        found = await history_of(client, fleet, Wish(limit=2, user="ann"))

    (line,) = found.asides
    assert line.startswith("searched back to 2026-11-21 12:00 UTC only: what is older is being ind")


async def test_that_nothing_fits_is_said() -> None:
    async with recorder([]) as (client, fleet):
        found = await history_of(client, fleet, Wish(limit=2))

    assert (found.rows, found.asides) == ([], ("nothing was recorded that fits",))


async def test_who_follows_sees_the_last_ones_first_and_each_once() -> None:
    said: list[Row] = []
    following = Following(said.append)
    async with recorder([event(n) for n in range(1, 6)]) as (client, _):

        async def past() -> Found:
            # Meanwhile something happens, of which the recorder has heard in part.
            following.take(heard(5))
            following.take(heard(6))
            return await history_of(client, following.fleet, Wish(limit=2))

        await following.begin(past())
        following.take(heard(6))
        following.take(heard(7))

    assert [row["sequence"] for row in said] == [4, 5, 6, 7]


async def test_without_a_recorder_what_happens_is_shown_nevertheless(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def past() -> Found:
        raise RequestFailed("the recorder did not answer within 10 s; is it running?")

    said: list[Row] = []
    following = Following(said.append)
    await following.begin(past())
    following.take(heard(1))

    assert [row["sequence"] for row in said] == [1]
    assert caplog.messages[0].endswith("is it running?; only what happens from now on is shown")


async def test_that_nobody_reads_any_more_is_no_fault_of_the_bus() -> None:
    def say(_: Row) -> None:
        raise BrokenPipeError

    following = Following(say)
    following.take(heard(1))
    following.take(heard(2))

    with pytest.raises(BrokenPipeError):
        following.broken.result()


async def test_who_follows_a_node_that_was_never_recorded_is_told() -> None:
    async def past() -> Found:
        raise NeverRecorded("no node named 'gpu9' was ever recorded")

    with pytest.raises(NeverRecorded):
        await Following(print).begin(past())
