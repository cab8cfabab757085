"""The fleet second after second, also where its broker goes and comes back."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.mqtt import MqttBus
from gleaner.cli.settings import Settings
from gleaner.cli.watch import watch
from gleaner.runtime import Fatal
from gleaner.settings import BusSettings, NodeSettings
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
