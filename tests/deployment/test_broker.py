"""The broker of the containers, by its own script: who gets in, who is thrown off, what is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gleaner.bus.connection import Connection
from gleaner.bus.interface import Delivery
from gleaner.bus.messages import Beat, Event, RunnerState
from gleaner.bus.mqtt import MqttBus
from gleaner.cli.deployment.enroll import enroll, remove
from gleaner.fleet import Fleet, follow
from tests.builders import folder_for_all, until
from tests.deployment.prepared import Deployment, connection

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with folder_for_all() as folder, Deployment(folder) as started:
        yield started


@asynccontextmanager
async def bus(to: Connection, *, durable: bool = False) -> AsyncIterator[MqttBus]:
    one = MqttBus(to, "test", "test", announces=False, durable=durable)
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.wait([task])


def answer(to: Connection) -> str:
    """Return what the broker says to somebody who connects."""
    answers: list[str] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set(to.user or "", to.password)
    client.on_connect = lambda _, __, ___, reason, ____: answers.append(str(reason))
    client.connect(*to.address)
    while not answers:
        client.loop(0.1)
    client.disconnect()
    return answers[0]


def beat(node: str) -> Beat:
    return Beat(node=node, sequence=1, check_seconds=0.1, at=datetime.now(UTC))


def runner_state(node: str) -> RunnerState:
    fact: dict[str, Any] = {"paused": False, "watched": True, "term": 1, "generation": 1}
    return RunnerState(node=node, lease="held", at=datetime.now(UTC), **fact)


@pytest.mark.parametrize("name", ["scheduler", "recorder", "web", "operator"])
async def test_every_service_connects_with_the_account_of_its_volume(
    deployment: Deployment, name: str
) -> None:
    async with bus(deployment.service(name)) as service:
        await until(lambda: service.connected)


async def test_a_node_enrolled_while_the_broker_runs_connects_and_disturbs_nobody(
    deployment: Deployment,
) -> None:
    losses: list[bool] = []
    async with bus(deployment.service("scheduler")) as scheduler:
        await until(lambda: scheduler.connected)
        scheduler.on_connection(losses.append)
        began = time.monotonic()
        said = await asyncio.to_thread(deployment.enroll, "gpu1")
        async with bus(connection(said)) as node, bus(connection(said, "runner")) as runner:
            await until(lambda: node.connected and runner.connected)
            assert time.monotonic() - began < 3
        assert losses == []


def test_a_wrong_password_is_refused(deployment: Deployment) -> None:
    to = deployment.service("scheduler")

    assert answer(replace(to, password="wrong")) == "Not authorized"
    assert answer(replace(to, user=None, password=None)) == "Not authorized"


async def test_a_node_that_is_refused_says_as_whom_and_why(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    said = await asyncio.to_thread(deployment.enroll, "gpu7")
    async with bus(replace(connection(said), password="wrong")):
        await until(lambda: bool(caplog.messages))

    assert caplog.messages == [
        (
            f"{said.url} refused us as '{said.user}': Not authorized "
            "(there is no such account, or its password is another)"
        )
    ]


async def test_a_node_speaks_for_itself_only(deployment: Deployment) -> None:
    said = await asyncio.to_thread(deployment.enroll, "gpu2")
    async with bus(connection(said)) as node:
        await until(lambda: node.connected)

        assert await node.deliver(beat("gpu2")) is None
        assert "Not authorized" in str(await node.deliver(beat("gpu1")))


async def test_who_asks_for_anothers_client_id_gets_its_own(deployment: Deployment) -> None:
    said = await asyncio.to_thread(deployment.enroll, "gpu3")
    losses: list[bool] = []
    async with bus(deployment.service("scheduler")) as scheduler:
        await until(lambda: scheduler.connected)
        scheduler.on_connection(losses.append)
        thief = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=deployment.service("scheduler").user
        )
        thief.username_pw_set(said.user, said.password)
        thief.connect("127.0.0.1", deployment.port)
        thief.loop(0.2)
        assert "Not authorized" in str(await scheduler.deliver(beat("gpu3")))
        thief.disconnect()
        assert losses == []


async def test_a_reader_reads_everything_and_writes_nothing(deployment: Deployment) -> None:
    done = await asyncio.to_thread(enroll, deployment.directory, "reader", "grafana", "new")
    node = await asyncio.to_thread(deployment.enroll, "gpu4")
    heard: list[Delivery] = []
    async with bus(connection(done.enrolment)) as reader, bus(connection(node)) as gpu4:
        reader.subscribe(Beat, heard.append)
        await until(lambda: reader.connected and gpu4.connected)

        assert await gpu4.deliver(beat("gpu4")) is None
        await until(lambda: bool(heard))
        assert "Not authorized" in str(await reader.deliver(beat("gpu4")))
        # Its account is for the listener where client ids are free, and for no other.
        nodes = f"mqtt://127.0.0.1:{deployment.port}"
        refused = await asyncio.to_thread(
            answer, connection(done.enrolment.model_copy(update={"url": nodes}))
        )
        assert refused == "Not authorized"


async def test_a_renewed_node_is_thrown_off_and_let_in_with_its_new_password(
    deployment: Deployment,
) -> None:
    old = await asyncio.to_thread(deployment.enroll, "gpu5")
    losses: list[bool] = []
    async with bus(connection(old)) as node:
        await until(lambda: node.connected)
        node.on_connection(losses.append)
        new = await asyncio.to_thread(deployment.enroll, "gpu5", "renew")
        await until(lambda: False in losses)
    assert await asyncio.to_thread(answer, connection(old)) == "Not authorized"
    assert await asyncio.to_thread(answer, connection(new)) == "Success"


async def test_a_removed_node_is_thrown_off_and_refused_and_forgotten(
    deployment: Deployment,
) -> None:
    said = await asyncio.to_thread(deployment.enroll, "gpu6")
    fleet, losses = Fleet(), list[bool]()
    async with bus(deployment.service("web")) as web:
        follow(web, fleet)
        node = MqttBus(connection(said), "node", "gpu6")
        runner = MqttBus(connection(said, "runner"), "runner", "gpu6")
        tasks = [asyncio.create_task(one.run()) for one in (node, runner)]
        await until(lambda: node.connected and runner.connected)
        assert await runner.deliver(runner_state("gpu6")) is None
        await until(lambda: "gpu6" in fleet.nodes and bool(fleet.nodes["gpu6"].runner))
        node.on_connection(losses.append)

        gone = await asyncio.to_thread(remove, deployment.directory, "node", "gpu6")

        assert gone.is_known
        assert gone.is_forgotten
        await until(lambda: False in losses and "gpu6" not in fleet.nodes)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert await asyncio.to_thread(answer, connection(said)) == "Not authorized"


async def test_a_restarted_broker_keeps_facts_and_what_waits_for_the_recorder() -> None:
    state = runner_state("gpu1")
    event = Event(
        node="gpu1",
        stream="s",
        sequence=1,
        oldest_sequence=1,
        kind="people",
        data={},
        boot_id="b",
        at=datetime.now(UTC),
    )
    with folder_for_all() as folder:
        first = Deployment(folder)
        first.start()
        recorder = first.service("recorder")
        async with bus(recorder, durable=True) as listening:
            listening.subscribe(Event, lambda _: None)
            await until(lambda: listening.connected)
        said = await asyncio.to_thread(first.enroll, "gpu1")
        async with bus(connection(said)) as node:
            await until(lambda: node.connected)
            assert await node.deliver(event) is None
            assert await node.deliver(state) is None
        assert first.stop() == 0
        first.start()
        try:
            waiting: list[Delivery] = []
            async with bus(recorder, durable=True) as back:
                back.subscribe(Event, waiting.append)
                back.subscribe(RunnerState, waiting.append)
                await until(lambda: len(waiting) > 1)
            assert {type(one.message) for one in waiting} == {Event, RunnerState}
        finally:
            first.stop()
