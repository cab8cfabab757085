"""Collector and runner in one process, once or many times."""

from __future__ import annotations

import asyncio
import logging
import socket
from io import StringIO
from pathlib import Path

import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.interface import Delivery
from gleaner.bus.messages import Availability, Beat, GpuState, Inventory, RunnerState
from gleaner.bus.mqtt import MqttBus
from gleaner.runtime import Misconfigured, log_to
from gleaner.settings import BusSettings, GpuSettings, NodeSettings, SimulatedSettings
from services.node.service import nodes, serve, serve_node, title
from services.node.settings import Settings
from tests.brokers import Broker
from tests.builders import until
from tests.mosquitto import Mosquitto


def settings(directory: Path, *, count: int, url: str = "mqtt://127.0.0.1:1") -> Settings:
    return Settings(
        bus=BusSettings(url=url),
        node=NodeSettings(
            id="sim",
            data_directory=directory,
            gpu=GpuSettings(source="simulated"),
            simulated=SimulatedSettings(nodes=count, gpus=2),
        ),
    )


def test_a_process_is_one_node_by_default(tmp_path: Path) -> None:
    one = settings(tmp_path, count=1)

    assert nodes(one) == [one]


def test_simulated_nodes_have_ids_folders_and_accounts_of_their_own(tmp_path: Path) -> None:
    wanted = settings(tmp_path, count=2)
    wanted = wanted.model_copy(update={"bus": BusSettings(user="sim.secret")})

    found = nodes(wanted)

    assert [one.node.id for one in found] == ["sim-1", "sim-2"]
    assert [one.bus.user for one in found] == ["sim.secret-1", "sim.secret-2"]
    assert found[1].node.data_directory == tmp_path / "simulated" / "sim-2"


def test_a_real_node_is_never_multiplied(tmp_path: Path) -> None:
    real = settings(tmp_path, count=5)
    node = real.node.model_copy(update={"gpu": GpuSettings(source="nvml")})

    assert len(nodes(real.model_copy(update={"node": node}))) == 1


async def test_log_lines_of_one_process_say_which_node_they_are_of(tmp_path: Path) -> None:
    wanted, lines = settings(tmp_path, count=2), StringIO()
    log = log_to(lines, f"node {title(wanted)}")
    logging.getLogger().addHandler(log)
    try:
        serving = asyncio.create_task(serve(wanted))
        for node in ("sim-1", "sim-2"):
            await until(lambda name=node: f"node {name}: the broker at" in lines.getvalue())  # type: ignore[misc]
        logging.getLogger("of-all").warning("stopped")
        serving.cancel()
        await asyncio.wait([serving])
    finally:
        logging.getLogger().removeHandler(log)

    assert "node sim-1 to sim-2: stopped" in lines.getvalue()


@pytest.mark.broker
async def test_each_simulated_node_speaks_for_itself_and_says_farewell(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    mosquitto.forget()
    heard: dict[tuple[str, str], object] = {}

    def keep(delivery: Delivery) -> None:
        level = delivery.levels.get("node") or delivery.levels["instance"]
        heard[delivery.message_type.__name__, level] = delivery.message

    reader = MqttBus(Connection(url=mosquitto.url), "test", "reader", announces=False)
    for message_type in (Inventory, GpuState, RunnerState):
        reader.subscribe(message_type, keep)
    reader.subscribe(Availability, keep, service="node")
    reading = asyncio.create_task(reader.run())
    serving = asyncio.create_task(serve(settings(tmp_path, count=2, url=mosquitto.url)))
    kinds = ("Inventory", "GpuState", "RunnerState", "Availability")
    expected = {(kind, node) for kind in kinds for node in ("sim-1", "sim-2")}

    await until(lambda: heard.keys() >= expected)
    serving.cancel()
    await asyncio.wait([serving])

    def said(node: str) -> object:
        last = heard["Availability", node]
        return last.state if isinstance(last, Availability) else None

    await until(lambda: said("sim-1") == said("sim-2") == "offline")
    reading.cancel()
    await asyncio.wait([reading])


@pytest.mark.broker
async def test_of_two_nodes_with_one_name_and_account_the_second_gives_way(
    tmp_path: Path, mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    mosquitto.forget()
    bus = BusSettings(url=mosquitto.url, user="shared", client_id="user")
    ours, theirs = (
        settings(tmp_path / name, count=1).model_copy(update={"bus": bus})
        for name in ("first", "second")
    )
    said: list[Availability] = []
    reader = MqttBus(Connection(url=mosquitto.url), "test", "reader", announces=False)
    reader.subscribe(
        Availability, lambda one: said.append(one.message), service="node", instance="sim"
    )
    reading = asyncio.create_task(reader.run())
    first = asyncio.create_task(serve(ours))
    await until(lambda: any(one.state == "online" for one in said))

    with pytest.raises(ExceptionGroup) as error:
        await asyncio.wait_for(serve(theirs), 30)

    why = f"node.id sim is in use by host {socket.gethostname()}, with the same account"
    assert error.group_contains(Misconfigured, match=why)
    assert not first.done()
    since = said[0].since
    await until(lambda: (said[-1].state, said[-1].since) == ("online", since))
    assert "another node calls itself sim too" in caplog.text
    for task in (first, reading):
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.broker
async def test_nodes_of_different_names_may_share_an_account(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    mosquitto.forget()
    one, other = (
        each.model_copy(update={"bus": each.bus.model_copy(update={"user": "shared"})})
        for each in nodes(settings(tmp_path, count=2, url=mosquitto.url))
    )
    online: list[str] = []
    reader = MqttBus(Connection(url=mosquitto.url), "test", "reader", announces=False)
    reader.subscribe(Beat, lambda said: online.append(said.levels["node"]))
    doing = (reader.run(), serve_node(one), serve_node(other))
    serving = [asyncio.create_task(task) for task in doing]

    await until(lambda: online.count("sim-1") >= 2 and online.count("sim-2") >= 2)
    for task in serving:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.broker
async def test_a_node_with_the_account_of_another_gives_way_where_it_may_not_speak(
    tmp_path: Path,
) -> None:
    with Broker(tmp_path / "broker", ["sim"]) as broker:
        to = broker.connection("sim")
        bus = BusSettings(url=to.url, user=to.user, password=to.password, client_id="user")
        ours = settings(tmp_path / "ours", count=1).model_copy(update={"bus": bus})
        theirs = settings(tmp_path / "theirs", count=1).model_copy(update={"bus": bus})
        theirs = theirs.model_copy(update={"node": theirs.node.model_copy(update={"id": "other"})})
        said: list[Availability] = []
        reader = MqttBus(broker.connection("scheduler"), "test", "reader", announces=False)
        reader.subscribe(Availability, lambda one: said.append(one.message), service="node")
        tasks = [asyncio.create_task(task) for task in (reader.run(), serve(ours))]
        await until(lambda: any(one.state == "online" for one in said))

        with pytest.raises(ExceptionGroup) as error:
            await asyncio.wait_for(serve(theirs), 60)

        why = r"the account at the broker \(bus.user\) is not that of node.id other"
        assert error.group_contains(Misconfigured, match=why)
        await until(lambda: said[-1].state == "online", 30)
        assert {one.instance for one in said} == {"sim"}
        for task in tasks:
            task.cancel()
            await asyncio.wait([task])
