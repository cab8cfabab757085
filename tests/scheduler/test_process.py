"""The scheduler as a process of its own, with a real broker."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.interface import Delivery
from gleaner.bus.messages import Desired, DesiredBody, RequestKind
from gleaner.bus.mqtt import MqttBus
from gleaner.bus.signature import Verifier
from gleaner.client import Client
from tests.builders import until
from tests.mosquitto import Mosquitto
from tests.scheduler.story import World

pytestmark = pytest.mark.broker


class Process:
    """A scheduler that is started by its module, as `gleaner up` does."""

    def __init__(self, url: str, data: Path) -> None:
        self._environment = os.environ | {
            "GLEANER_BUS__URL": url,
            "GLEANER_NODE__DATA_DIRECTORY": str(data),
        }

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "services.scheduler"],
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def scheduler(mosquitto: Mosquitto, data: Path) -> Iterator[subprocess.Popen[str]]:
    mosquitto.forget()
    process = Process(mosquitto.url, data).start()
    with process:
        yield process
        if process.poll() is None:
            process.kill()


def real_world() -> World:
    world = World(beating=False)
    world.now = world.now.now(world.now.tzinfo)
    return world


async def test_it_grants_answers_and_stops_on_a_signal(
    mosquitto: Mosquitto, data: Path, scheduler: subprocess.Popen[str]
) -> None:
    world, wishes = real_world(), list[DesiredBody]()
    bus = MqttBus(Connection(url=mosquitto.url), "node", "n1")

    def hear(delivery: Delivery) -> None:
        wish = delivery.message
        assert isinstance(wish, Desired)
        verifier = Verifier([(data / "keys" / "scheduler.pub").read_text().strip()])
        wishes.append(verifier.verify(DesiredBody, wish.body, wish.key, wish.signature))

    bus.subscribe(Desired, hear)
    running = asyncio.create_task(bus.run())
    await until(lambda: bus.connected)
    for message in world.facts_of_a_start():
        bus.publish(message)

    async def beat() -> None:
        while True:
            bus.publish(world.a_beat())
            await asyncio.sleep(0.2)

    beating = asyncio.create_task(beat())
    await until(lambda: bool(wishes))
    assert [(grant.entry, grant.gpus) for grant in wishes[-1].runs] == [("fold", ("GPU-0",))]
    async with Client(Connection(url=mosquitto.url), "tests") as client:
        answer = await client.request(RequestKind.PAUSE, node="n1", by="alice")
    assert answer.text == "n1 is paused until resumed"
    await until(lambda: wishes[-1].runs == ())

    scheduler.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(scheduler.wait, 10) == 0
    assert scheduler.stderr
    said = scheduler.stderr.read()
    assert "n1: fold on GPU 0 is granted: idle for " in said
    assert (data / "health" / "scheduler").exists()
    assert (data / "keys" / "scheduler.key").stat().st_mode & 0o777 == 0o600
    beating.cancel()
    running.cancel()
    await asyncio.wait([beating, running])


async def test_a_second_one_on_the_same_data_ends_with_one_clear_line(
    mosquitto: Mosquitto, data: Path, scheduler: subprocess.Popen[str]
) -> None:
    await until(lambda: (data / "keys" / "scheduler.pub").exists())

    with Process(mosquitto.url, data).start() as second:
        assert await asyncio.to_thread(second.wait, 10) == 1
        assert second.stderr
        lines = second.stderr.read().splitlines()

    assert [line.split("scheduler: ")[1] for line in lines] == [
        f"{data / 'scheduler'} is in use by another scheduler"
    ]
