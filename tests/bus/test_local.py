"""The node's own bus: local first, then kept, then sent; and sent again only when it must be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from gleaner.bus import local
from gleaner.bus.interface import Delivery
from gleaner.bus.local import NodeBus
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.message import Writer
from gleaner.bus.messages import (
    Availability,
    Event,
    EventKind,
    GpuCondition,
    GpuState,
    Recorded,
    RunnerState,
)
from gleaner.bus.outbox import Outbox
from gleaner.bus.pace import Pace
from tests.builders import NOW, until

BOTH = frozenset({Writer.COLLECTOR, Writer.RUNNER})


def a_gpu(state: GpuCondition = GpuCondition.IDLE) -> GpuState:
    return GpuState(node="n1", gpu="GPU-1", index=0, state=state, since=NOW, at=NOW)


class Node:
    """A node's bus, and all events that reached the broker."""

    def __init__(self, broker: MemoryBroker, outbox: Outbox, roles: frozenset[Writer]) -> None:
        self.remote = MemoryBus(broker, "node", "n1")
        self.outbox = outbox
        self.bus = NodeBus("n1", "boot", self.remote, outbox, roles)
        self.other = MemoryBus(broker, "recorder", "main")
        self.arrived: list[Event] = []
        self.other.subscribe(Event, self._hear)

    def _hear(self, delivery: Delivery) -> None:
        assert isinstance(delivery.message, Event)
        self.arrived.append(delivery.message)

    def record(self, count: int = 1) -> None:
        for number in range(count):
            self.bus.record(EventKind.PROBLEM, {"what": "test", "text": str(number)})

    def recorded(self, number: int, stream: str | None = None) -> None:
        streams = {stream or self.outbox.stream: number}
        self.other.publish(Recorded(node="n1", streams=streams, at=datetime.now(UTC)))

    @property
    def numbers(self) -> list[int]:
        return [event.sequence for event in self.arrived]


@pytest.fixture
async def node(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(local, "WATERMARK_SECONDS", 0.02)
    with Outbox(None) as outbox:
        node = Node(MemoryBroker(), outbox, BOTH)
        async with node.other, node.remote:
            task = asyncio.create_task(node.bus.run())
            yield node
            task.cancel()
            await asyncio.wait([task])


async def test_local_handlers_have_run_before_anything_leaves_the_process(node: Node) -> None:
    order: list[str] = []
    node.other.subscribe(GpuState, lambda _: order.append("broker"))
    node.bus.subscribe(GpuState, lambda _: order.append("runner"))

    node.bus.publish(a_gpu())
    order.append("returned")

    await until(lambda: "broker" in order)
    assert order == ["runner", "returned", "broker"]


async def test_our_own_facts_are_never_taken_from_the_broker(node: Node) -> None:
    heard: list[Delivery] = []
    node.bus.subscribe(GpuState, heard.append, node="n1")

    node.other.publish(a_gpu(GpuCondition.BUSY))
    node.bus.publish(a_gpu(GpuCondition.OURS))
    node.record()

    await until(lambda: bool(node.arrived))
    assert [one.message for one in heard] == [a_gpu(GpuCondition.OURS)]


async def test_a_runner_by_itself_takes_the_collectors_facts_from_the_broker() -> None:
    with Outbox(None) as outbox:
        runner = Node(MemoryBroker(), outbox, frozenset({Writer.RUNNER}))
        heard: list[Delivery] = []
        runner.bus.subscribe(GpuState, heard.append, node="n1")
        async with runner.other, runner.remote:
            runner.other.publish(a_gpu())
            await until(lambda: bool(heard))


async def test_who_subscribes_later_gets_the_facts_that_stand_here(node: Node) -> None:
    heard: list[Delivery] = []
    node.bus.publish(a_gpu())
    node.bus.clear(RunnerState, node="n1")

    node.bus.subscribe(GpuState, heard.append)
    node.bus.clear(GpuState, node="n1", gpu="GPU-1")
    node.bus.subscribe(GpuState, heard.append)

    assert [(one.message, one.retained) for one in heard] == [(a_gpu(), True), (None, False)]


async def test_what_is_delivered_is_heard_here_too(node: Node) -> None:
    heard: list[Delivery] = []
    node.bus.subscribe(GpuState, heard.append)

    assert await node.bus.deliver(a_gpu()) is None

    assert [one.message for one in heard] == [a_gpu()]


async def test_facts_are_published_again_on_connect(node: Node) -> None:
    heard: list[Delivery] = []
    node.bus.publish(a_gpu())
    await until(lambda: bool(node.other._broker.retained))
    node.remote.disconnect()
    node.other._broker.retained.clear()
    node.other.subscribe(GpuState, heard.append)

    node.remote.connect()

    await until(lambda: bool(heard))


async def test_what_somebody_else_said_in_our_name_is_overwritten_when_asked_for(
    node: Node,
) -> None:
    heard: list[str] = []
    node.other.subscribe(GpuState, lambda delivery: heard.append(delivery.message.state.value))
    node.bus.publish(a_gpu(GpuCondition.BUSY))
    node.other.publish(a_gpu(GpuCondition.IDLE))

    node.bus.say_again()
    await until(lambda: len(heard) == 3)

    assert heard == ["busy", "idle", "busy"]


async def test_events_are_sent_once_and_forgotten_when_recorded(node: Node) -> None:
    node.record(60)
    await until(lambda: len(node.arrived) == 60)

    node.recorded(60)

    await until(lambda: node.bus.unrecorded == 0)
    assert node.numbers == list(range(1, 61))


async def test_events_wait_while_the_broker_is_away(node: Node) -> None:
    node.remote.disconnect()
    node.record(3)
    assert node.bus.unrecorded == 3

    node.remote.connect()

    await until(lambda: node.numbers == [1, 2, 3])


async def test_after_a_new_connection_only_what_is_not_recorded_is_sent(node: Node) -> None:
    node.record(5)
    await until(lambda: len(node.arrived) == 5)
    node.remote.disconnect()
    node.recorded(3)
    node.arrived.clear()

    node.remote.connect()

    await until(lambda: node.numbers == [4, 5])


async def test_a_recorder_that_comes_back_gets_what_it_may_have_missed(node: Node) -> None:
    node.record(3)
    await until(lambda: len(node.arrived) == 3)
    node.arrived.clear()

    again = MemoryBus(node.other._broker, "recorder", "main")
    async with again:
        await until(lambda: node.numbers == [1, 2, 3])
        assert node.arrived[0].oldest_sequence == 1


async def test_a_watermark_that_stands_still_makes_it_send_again_but_rarely(node: Node) -> None:
    node.bus._pace = Pace(window=40, stuck_seconds=0.5)
    node.record(40)
    await until(lambda: len(node.arrived) == 40)
    node.bus._something_to_do.set()

    await until(lambda: len(node.arrived) >= 60)

    # Half as many, and twice the wait before the next time.
    assert node.numbers == [*range(1, 41), *range(1, 21)]
    assert node.bus._pace.stuck_seconds == 1.0
    assert node.bus._pace.window == 20


async def test_only_so_many_are_on_their_way_at_once(node: Node) -> None:
    node.record(1200)
    await until(lambda: len(node.arrived) == 500)
    await asyncio.sleep(0.05)
    assert len(node.arrived) == 500

    node.recorded(400)

    await until(lambda: len(node.arrived) == 900)


async def test_a_recorder_with_an_empty_database_is_believed(node: Node) -> None:
    node.record(3)
    await until(lambda: len(node.arrived) == 3)
    node.recorded(2)
    await until(lambda: node.bus.unrecorded == 1)

    node.recorded(0, "somebody else's")
    node.record()

    await until(lambda: node.numbers == [1, 2, 3, 4])
    assert node.arrived[-1].oldest_sequence == 3


async def test_dropped_events_are_an_event(caplog: pytest.LogCaptureFixture) -> None:
    with Outbox(None, max_bytes=20_000) as outbox:
        node = Node(MemoryBroker(), outbox, BOTH)
        node.record(100)

        kinds = [event.kind for event in outbox.after({}, 1000, 1000)]

    assert "overflow" in kinds
    assert "were dropped" in caplog.text
    assert next(record.levelno for record in caplog.records) == logging.ERROR


async def test_a_refusal_is_said_once_and_the_events_wait(
    node: Node, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: object) -> str:
        return "the broker refused it: Not authorized"

    monkeypatch.setattr(node.remote, "deliver", refuse)
    node.record(3)
    await until(lambda: "Not authorized" in caplog.text)
    node.record(3)
    await asyncio.sleep(0.05)

    assert caplog.text.count("Not authorized") == 1
    assert node.bus.unrecorded == 6


async def test_events_of_a_node_that_was_renamed_go_under_its_new_name(node: Node) -> None:
    node.outbox.append(
        Event(
            node="old-name",
            stream="",
            sequence=0,
            oldest_sequence=0,
            kind="test",
            data={},
            boot_id="boot",
            at=NOW,
        )
    )

    await until(lambda: [event.node for event in node.arrived] == ["n1"], 3)


async def test_the_availability_of_others_means_nothing(node: Node) -> None:
    node.record(2)
    await until(lambda: len(node.arrived) == 2)

    node.other.publish(
        Availability(
            service="web", instance="1", state="online", connection="x", version="1", at=NOW
        )
    )
    node.record()

    await until(lambda: node.numbers == [1, 2, 3])
