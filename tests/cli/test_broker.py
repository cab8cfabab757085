"""The broker of `gleaner up`, as it is really configured: who may do what there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gleaner.bus.codec import encode
from gleaner.bus.interface import Delivery
from gleaner.bus.message import ROOT
from gleaner.bus.messages import Beat, Recorded, RunnerState
from gleaner.bus.mqtt import MqttBus
from gleaner.cli.machine import broker
from tests.brokers import Broker
from tests.builders import NOW, until

pytestmark = pytest.mark.broker

NODES = ("n1", "n2")

WRITERS = {
    "node/n1/inventory": "n1",
    "node/n1/catalogue": "n1",
    "node/n1/runner": "n1",
    "node/n1/beat": "n1",
    "node/n1/gpu/GPU-1/state": "n1",
    "node/n1/people": "n1",
    "node/n1/telemetry": "n1",
    "node/n1/event": "n1",
    "node/n1/run/r1": "n1",
    "node/n1/recorded": "recorder",
    "node/n1/desired": "scheduler",
    "node/n1/blockers": "scheduler",
    "scheduler/beat": "scheduler",
    "scheduler/state": "scheduler",
    "response/c1/1": "scheduler",
    "history/answer/c1/1": "recorder",
    "request/pause/1": "web operator",
    "history/query/1": "web operator",
    "service/node/n1/availability": "n1",
    "service/node/n2/availability": "n2",
    "service/scheduler/s/availability": "scheduler",
    "service/recorder/s/availability": "recorder",
    "service/web/s/availability": "web",
    "anything/else": "",
}
"""Topic to those who may write it; everybody else must not."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker"), NODES) as started:
        yield started


@asynccontextmanager
async def bus(running: Broker, name: str | None) -> AsyncIterator[MqttBus]:
    one = MqttBus(running.connection(name), "test", name or "nobody", announces=False)
    task = asyncio.create_task(one.run())
    try:
        await until(lambda: one.connected)
        yield one
    finally:
        task.cancel()
        await asyncio.wait([task])


def refusals(running: Broker, name: str | None) -> dict[str, bool]:
    """Publish under every topic of the table; return which ones the broker refused."""
    to = running.connection(name)
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=to.user if to.user and to.client_id == "user" else "somebody",
        protocol=MQTTProtocolVersion.MQTTv5,
    )
    if to.user:
        client.username_pw_set(to.user, to.password)
    refused: dict[int, bool] = {}

    def published(_: Any, __: Any, mid: int, reason: Any, ___: Any) -> None:
        refused[mid] = reason.is_failure

    client.on_publish = published
    client.connect(*to.address)
    client.loop_start()
    try:
        sent = {topic: client.publish(f"{ROOT}/{topic}", b"", qos=1) for topic in WRITERS}
        for one in sent.values():
            one.wait_for_publish(10)
        return {topic: refused[one.mid] for topic, one in sent.items()}
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.parametrize("name", [None, "operator", "n1", "n2", "scheduler", "recorder", "web"])
def test_each_topic_has_the_writers_of_the_table_and_no_others(
    running: Broker, name: str | None
) -> None:
    allowed = {topic for topic, refused in refusals(running, name).items() if not refused}

    assert allowed == {topic for topic, names in WRITERS.items() if name in names.split()}


async def test_anybody_on_this_machine_may_look(running: Broker) -> None:
    heard: list[Delivery] = []
    async with bus(running, None) as nobody, bus(running, "n1") as node:
        nobody.subscribe(Beat, heard.append)
        beat = Beat(node="n1", sequence=1, check_seconds=0.1, at=NOW)

        async with asyncio.timeout(10):
            # Two connections: what is published may be there before the subscription is.
            while not heard:
                assert await node.deliver(beat) is None

        assert heard[0].message == beat


async def test_a_node_hears_nothing_of_another_node(running: Broker) -> None:
    heard: list[Delivery] = []
    async with bus(running, "n1") as node, bus(running, "recorder") as recorder:
        node.subscribe(Recorded, heard.append)

        for name in ("n2", "n1"):
            assert await recorder.deliver(Recorded(node=name, streams={}, at=NOW)) is None

        await until(lambda: bool(heard))
        assert [delivery.levels["node"] for delivery in heard] == ["n1"]


async def test_two_of_the_command_line_do_not_throw_each_other_off(running: Broker) -> None:
    losses: list[bool] = []
    async with bus(running, "operator") as one:
        one.on_connection(losses.append)
        async with bus(running, "operator"):
            assert await one.deliver(Beat(node="n1", sequence=1, check_seconds=0, at=NOW))
        assert losses == []


async def test_a_stranger_cannot_throw_a_service_off(running: Broker) -> None:
    """Client ids are one space for both listeners; the services' names are secret."""
    losses: list[bool] = []
    async with bus(running, "scheduler") as scheduler:
        scheduler.on_connection(losses.append)
        for name in ("scheduler", "n1", "recorder"):
            stranger = paho.Client(CallbackAPIVersion.VERSION2, client_id=name)
            stranger.connect(*running.connection(None).address)
            stranger.loop(0.2)
            stranger.disconnect()
        refused = await scheduler.deliver(Beat(node="n1", sequence=1, check_seconds=0, at=NOW))
        assert refused
        assert losses == []


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_wrong_password_is_refused(running: Broker, password: str) -> None:
    to = running.connection("scheduler")
    answers: list[Any] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set(to.user or "", password)
    client.on_connect = lambda _, __, ___, reason, ____: answers.append(str(reason))
    client.connect(*to.address)
    while not answers:
        client.loop(0.1)
    client.disconnect()

    assert answers == ["Not authorized"]


async def test_a_fact_is_kept_over_a_restart_of_the_broker(tmp_path: Path) -> None:
    fact = RunnerState(
        node="n1", paused=False, watched=True, term=1, generation=1, lease="held", at=NOW
    )
    with Broker(tmp_path, NODES) as first:
        async with bus(first, "n1") as node:
            assert await node.deliver(fact) is None

    with Broker(tmp_path, NODES) as second:
        heard: list[Delivery] = []
        async with bus(second, "web") as web:
            web.subscribe(RunnerState, heard.append)
            await until(lambda: bool(heard))
        assert encode(fact) == encode(heard[0].message)  # type: ignore[arg-type]


def test_files_with_secrets_are_for_their_readers_only(running: Broker) -> None:
    modes = {
        path.name: path.stat().st_mode & 0o777
        for path in running.directory.rglob("*")
        if path.is_file() and path.parent.name != "data"
    }

    assert modes.pop("operator.password") == 0o600
    assert {mode for name, mode in modes.items() if name.endswith(".password")} == {0o600}
    assert modes["services.passwords"] == modes["services.acl"] == 0o640
    assert (running.directory / "accounts").stat().st_mode & 0o777 == 0o700


def test_accounts_keep_their_names_and_get_new_passwords(tmp_path: Path) -> None:
    first = broker.make_identities(tmp_path, ["n1", "web"])
    second = broker.make_identities(tmp_path, ["web", "n1"])

    assert second["n1"].user == first["n1"].user
    assert first["n1"].user.startswith("n1.")
    assert second["n1"].password != first["n1"].password
    assert second["n1"].password_file.read_text().strip() == second["n1"].password


def test_a_free_port_is_none_that_a_client_could_call_from() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {broker.free_port() for _ in range(20)}
    assert len(ports) > 1
    assert max(ports) < first
    assert all(broker.can_listen("127.0.0.1", port) for port in ports)


def test_a_free_port_of_an_address_that_is_not_ours_is_an_error() -> None:
    with pytest.raises(OSError, match="no port of"):
        broker.free_port("192.0.2.1")
