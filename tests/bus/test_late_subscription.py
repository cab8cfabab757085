"""A subscription that is made while the connection is being made is not forgotten."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.interface import Delivery
from gleaner.bus.messages import Beat, RunnerState
from gleaner.bus.mqtt import MqttBus
from tests.builders import NOW, until
from tests.mosquitto import Mosquitto

pytestmark = pytest.mark.broker

STATE = RunnerState(
    node="n1", paused=False, watched=True, term=None, generation=None, lease="none", at=NOW
)


class Hurried(MqttBus):
    """A bus on which somebody subscribes right after it asked for everything."""

    heard: list[Delivery]

    def _on_connect(self, *connect: Any) -> None:
        super()._on_connect(*connect)
        self.subscribe(RunnerState, self.heard.append)


async def test_whoever_subscribes_between_question_and_answer_is_heard(
    mosquitto: Mosquitto,
) -> None:
    mosquitto.forget()
    speaker = MqttBus(Connection(url=mosquitto.url), "test", "speaker")
    bus = Hurried(Connection(url=mosquitto.url), "test", "hurried")
    bus.heard = []
    bus.subscribe(Beat, bus.heard.append)
    tasks = [asyncio.create_task(speaker.run())]
    speaker.publish(STATE)
    await until(lambda: speaker.connected)
    tasks.append(asyncio.create_task(bus.run()))
    try:
        await until(lambda: [one.message for one in bus.heard] == [STATE], 3)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        # What is retained here would meet the next test.
        mosquitto.forget()
