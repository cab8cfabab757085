"""The fleet second after second, also where its broker goes and comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.messages import Event
from gleaner.bus.mqtt import MqttBus
from gleaner.cli.history.events import Row, follow
from gleaner.cli.machine.endpoint import write_endpoint
from gleaner.cli.now.watch import listening, watch
from gleaner.cli.settings import Settings
from gleaner.runtime import Fatal
from gleaner.settings import BusSettings, NodeSettings
from tests.brokers import Broker
from tests.builders import NOW, until
from tests.mosquitto import Mosquitto
from tests.web.example import Example

pytestmark = pytest.mark.broker


def settings(directory: Path, broker: Mosquitto) -> Settings:
    return Settings(bus=BusSettings(url=broker.url), node=NodeSettings(data_directory=directory))


async def test_a_broker_that_is_lost_is_said_at_once_and_gone_on_with_when_it_is_back(
    tmp_path: Path,
) -> None:
    inventory = Example(NOW).inventory("atlas", "H100", 2, 80, notices="fanotify")
    with Mosquitto(tmp_path) as broker:
        bus = MqttBus(Connection(url=broker.url), "test", "1")
        bus.publish(inventory)
        speaking = asyncio.create_task(bus.run())
        await until(lambda: bus.connected)
        loop = asyncio.get_running_loop()

        async with contextlib.aclosing(watch(settings(tmp_path, broker))) as moments:
            view, lost = await anext(moments)
            assert (list(view.nodes), lost) == (["atlas"], None)

            broker.kill()
            killed_at = loop.time()
            while lost is None:
                view, lost = await asyncio.wait_for(anext(moments), 10)
            assert loop.time() - killed_at < 1 + lost
            assert list(view.nodes) == ["atlas"]
            later = (await anext(moments))[1]
            assert later is not None
            assert later > lost

            broker.start()
            while lost is not None:
                view, lost = await asyncio.wait_for(anext(moments), 10)
            await until(lambda: bus.connected)
            while list(view.nodes) != ["atlas"]:
                view, lost = await asyncio.wait_for(anext(moments), 10)
        speaking.cancel()
        await asyncio.wait([speaking])


async def test_a_broker_that_was_never_there_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="no broker at"):
        await anext(watch(settings(tmp_path, Mosquitto(tmp_path))))


async def says(up: Broker, gpus: int, heard: Callable[[], bool]) -> None:
    """As a node, say how many GPUs it has, and that something happened, until it was heard."""
    bus = MqttBus(up.connection("atlas"), "node", "atlas")
    bus.publish(Example(NOW).inventory("atlas", "H100", gpus, 80, notices="fanotify"))
    speaking = asyncio.create_task(bus.run())
    try:
        async with asyncio.timeout(20):
            while not heard():
                if bus.connected:
                    bus.publish(event(gpus))
                await asyncio.sleep(0.05)
    finally:
        speaking.cancel()
        await asyncio.wait([speaking])


def event(sequence: int) -> Event:
    """Something that happened at a node."""
    return Event(
        node="atlas", stream="s", sequence=sequence, oldest_sequence=1, kind="people",
        data={"reason": "nobody is active"}, boot_id="b", at=NOW,
    )  # fmt: skip


async def test_who_watches_comes_back_when_up_was_started_again_with_other_passwords(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = Settings(node=NodeSettings(id="atlas", data_directory=tmp_path))
    events: list[Row] = []

    with contextlib.ExitStack() as brokers:

        def start_up() -> Broker:
            up = brokers.enter_context(Broker(tmp_path / "broker", ["atlas"]))
            write_endpoint(tmp_path, up.public.url)
            return up

        first = start_up()
        async with listening(wanted) as line:

            def has_heard(gpus: int) -> bool:
                node = line.fleet.node("atlas")
                is_shown = node and node.inventory and len(node.inventory.gpus) == gpus
                return bool(is_shown) and [one["sequence"] for one in events][-1:] == [gpus]

            following = asyncio.create_task(follow(wanted, node=None, say=events.append))
            await says(first, 1, lambda: has_heard(1))
            brokers.close()
            await until(lambda: line.lost_at is not None)
            second = start_up()
            assert second.operator.password != first.operator.password

            await says(second, 2, lambda: has_heard(2))
            assert line.lost_at is None
            following.cancel()
            await asyncio.wait([following])

    assert len(events) == 2
    said = [one.message for one in caplog.records if one.name == "gleaner.cli.history.events"]
    assert [text.partition(";")[0] for text in said] == ["the broker is lost", "the broker is back"]
