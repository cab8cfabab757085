"""The shell on a bus: what is heard is decided, signed, said and kept."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gleaner.bus.codec import decode, encode
from gleaner.bus.interface import Delivery
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.messages import (
    Beat,
    BeatBody,
    Desired,
    DesiredBody,
    Request,
    RequestKind,
    Response,
    Run,
    RunnerState,
    SchedulerBeat,
    SchedulerState,
)
from gleaner.bus.signature import Signer, Verifier, load_or_make_key
from gleaner.runtime import Fatal
from gleaner.settings import SchedulerSettings
from services.scheduler import memory
from services.scheduler.service import Scheduler, _alone
from tests.builders import NOW, until
from tests.scheduler.story import World

FAST = 40
"""How much faster than real time these stories go."""


STATE = "gleaner/v1/scheduler/state"
STARTED = time.monotonic()


def clock() -> datetime:
    return NOW + timedelta(seconds=(time.monotonic() - STARTED) * FAST)


class SimpleNode:
    """A node on the bus that beats and begins what it is granted."""

    def __init__(self, broker: MemoryBroker, verifier: Verifier) -> None:
        self.world = World(beating=False)
        self.bus = MemoryBus(broker, "node", "n1")
        self.bus.subscribe(Desired, self._obey, node="n1")
        self._verifier = verifier
        self.runs: dict[str, Run] = {}
        self.wishes: list[DesiredBody] = []

    def say_facts(self) -> None:
        self.world.now = clock()
        for message in self.world.facts_of_a_start():
            if isinstance(message, RunnerState):
                message = message.model_copy(update={"runs": tuple(self.runs)})
            self.bus.publish(message)

    async def beat(self) -> None:
        while True:
            self.world.now = clock()
            self.world.sequence += 1
            self.bus.publish(
                Beat(node="n1", sequence=self.world.sequence, check_seconds=0.01, at=clock())
            )
            await asyncio.sleep(1 / FAST)

    def _obey(self, delivery: Delivery) -> None:
        wish = delivery.message
        assert isinstance(wish, Desired)
        body = self._verifier.verify(DesiredBody, wish.body, wish.key, wish.signature)
        self.wishes.append(body)
        for grant in body.runs:
            if grant.run not in self.runs:
                self.world.run_begins(grant)
                self.runs[grant.run] = self.world.runs[grant.run]
                self.bus.publish(self.runs[grant.run])


@contextlib.asynccontextmanager
async def scheduling(
    broker: MemoryBroker, directory: Path, signer: Signer
) -> AsyncIterator[asyncio.Task[None]]:
    bus = MemoryBus(broker, "scheduler", "main")
    scheduler = Scheduler(
        bus,
        SchedulerSettings(),
        signer,
        directory / "scheduler" / "state.json",
        clock=clock,
        tick_seconds=1 / FAST,
    )
    task = asyncio.create_task(scheduler.run())
    await asyncio.sleep(0)
    async with bus:
        yield task
        task.cancel()
        await asyncio.wait([task])


@contextlib.asynccontextmanager
async def a_node(broker: MemoryBroker, signer: Signer) -> AsyncIterator[SimpleNode]:
    node = SimpleNode(broker, Verifier([signer.public]))
    async with node.bus:
        node.say_facts()
        beating = asyncio.create_task(node.beat())
        yield node
        beating.cancel()
        await asyncio.wait([beating])


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return load_or_make_key(tmp_path / "keys" / "scheduler.key")


async def test_an_idle_gpu_is_granted_by_a_signed_wish(tmp_path: Path, signer: Signer) -> None:
    broker = MemoryBroker()

    async with a_node(broker, signer) as node, scheduling(broker, tmp_path, signer):
        await until(lambda: bool(node.runs))

    assert [(run.entry, run.gpus) for run in node.runs.values()] == [("fold", ("GPU-0",))]
    assert node.wishes[-1].term == 1


async def test_a_restarted_scheduler_takes_over_with_a_higher_term(
    tmp_path: Path, signer: Signer
) -> None:
    broker = MemoryBroker()

    async with a_node(broker, signer) as node:
        async with scheduling(broker, tmp_path, signer):
            await until(lambda: bool(node.runs))
        async with scheduling(broker, tmp_path, signer):
            await until(lambda: node.wishes[-1].term == 2)

    assert [grant.run for grant in node.wishes[-1].runs] == list(node.runs)
    assert len(node.runs) == 1


async def test_beats_are_signed_and_counted(tmp_path: Path, signer: Signer) -> None:
    broker, beats = MemoryBroker(), list[BeatBody]()
    verifier, listener = Verifier([signer.public]), MemoryBus(broker)

    def hear(delivery: Delivery) -> None:
        beat = delivery.message
        assert isinstance(beat, SchedulerBeat)
        beats.append(verifier.verify(BeatBody, beat.body, beat.key, beat.signature))

    listener.subscribe(SchedulerBeat, hear)
    async with listener, scheduling(broker, tmp_path, signer):
        await until(lambda: len(beats) >= 3)

    assert [beat.sequence for beat in beats[:3]] == [1, 2, 3]
    assert {beat.term for beat in beats} == {1}
    assert 4 <= (beats[1].at - beats[0].at).total_seconds() <= 10


async def test_a_request_is_answered_and_survives(tmp_path: Path, signer: Signer) -> None:
    broker = MemoryBroker()
    client, answers = MemoryBus(broker, "client", "c"), list[Delivery]()
    client.subscribe(Response, answers.append)

    async with a_node(broker, signer) as node, scheduling(broker, tmp_path, signer), client:
        await until(lambda: bool(node.runs))
        client.publish(
            Request(
                kind=RequestKind.PAUSE,
                id="r1",
                client="c",
                by="alice",
                node="n1",
                expires_at=clock() + timedelta(seconds=600),
                at=clock(),
            )
        )
        await until(lambda: bool(answers))
        await until(lambda: node.wishes[-1].runs == ())

    assert isinstance(answers[0].message, Response)
    assert answers[0].message.text == "n1 is paused until resumed"
    kept = memory.read(tmp_path / "scheduler" / "state.json")
    assert [pause.node for pause in kept.pauses] == ["n1"]
    assert kept.term == 1


async def test_a_disk_that_fails_stops_nothing_and_is_tried_again(
    tmp_path: Path, signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    broker, path = MemoryBroker(), tmp_path / "scheduler" / "state.json"

    async with a_node(broker, signer) as node, scheduling(broker, tmp_path, signer):
        (tmp_path / "scheduler").write_text("a file where a folder belongs")
        await until(lambda: bool(node.runs))
        assert f"{path} cannot be written (File exists)" in caplog.text
        (tmp_path / "scheduler").unlink()
        await until(path.exists)

    assert memory.read(path).term == 1


async def test_messages_that_come_twice_do_no_harm(tmp_path: Path, signer: Signer) -> None:
    broker = MemoryBroker()
    broker.copies = 2

    async with a_node(broker, signer) as node, scheduling(broker, tmp_path, signer):
        await until(lambda: bool(node.runs))
        await until(lambda: node.world.sequence > 40)

    assert len(node.runs) == 1
    assert {body.generation for body in node.wishes} == {1}


async def test_a_scheduler_that_meets_a_higher_term_stops_and_says_so(
    tmp_path: Path, signer: Signer
) -> None:
    broker = MemoryBroker()

    async with scheduling(broker, tmp_path, signer) as task:
        await until(lambda: STATE in broker.retained)
        body = BeatBody(term=9, generation=1, sequence=1, at=NOW)
        beat = SchedulerBeat(**signer.sign(body))
        broker.publish(beat.topic, encode(beat), retain=False)
        await asyncio.wait([task], timeout=5)

    with pytest.raises(ExceptionGroup) as caught:
        task.result()
    (fatal,) = caught.value.exceptions
    assert isinstance(fatal, Fatal)
    assert str(fatal).startswith("another scheduler beats with term 9")
    # The next start is above it.
    assert memory.read(tmp_path / "scheduler" / "state.json").term == 9


async def test_a_second_scheduler_stops_and_the_first_goes_on(
    tmp_path: Path, signer: Signer
) -> None:
    broker = MemoryBroker()

    async with scheduling(broker, tmp_path / "a", signer) as first:
        await until(lambda: STATE in broker.retained)
        async with scheduling(broker, tmp_path / "b", signer) as second:
            await until(second.done)

        assert not first.done()
        assert isinstance(second.exception(), ExceptionGroup)


async def test_two_schedulers_with_one_key_do_not_both_go_on(
    tmp_path: Path, signer: Signer
) -> None:
    broker = MemoryBroker()

    async with (
        scheduling(broker, tmp_path / "a", signer) as one,
        scheduling(broker, tmp_path / "b", signer) as other,
    ):
        await until(lambda: one.done() or other.done())

        stopped = one if one.done() else other
        assert isinstance(stopped.exception(), ExceptionGroup)


async def test_a_wish_of_a_foreign_key_is_not_believed(
    tmp_path: Path, signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    broker = MemoryBroker()
    foreign = load_or_make_key(tmp_path / "foreign.key")
    body = DesiredBody(node="n1", term=40, generation=1, runs=(), at=NOW)
    wish = Desired(node="n1", **foreign.sign(body))
    broker.publish(wish.topic, encode(wish), retain=True)

    async with scheduling(broker, tmp_path, signer):
        await until(lambda: STATE in broker.retained)

    state = decode(STATE, broker.retained[STATE])
    assert isinstance(state, SchedulerState)
    assert state.term == 1
    assert "is there another scheduler?" in caplog.text


def test_a_second_scheduler_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    with (
        _alone(tmp_path / "scheduler"),
        pytest.raises(Fatal, match="is in use by another scheduler"),
        _alone(tmp_path / "scheduler"),
    ):
        pass
