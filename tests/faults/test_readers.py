"""kill -9 of the recorder while somebody reads: what they read goes on, whole and once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.local import NodeBus
from gleaner.bus.message import Writer
from gleaner.bus.messages import EventKind
from gleaner.bus.mqtt import MqttBus
from gleaner.bus.outbox import Outbox
from gleaner.cli.machine.broker import free_port
from services.recorder.store import Store
from tests.builders import NOW, until
from tests.mosquitto import Mosquitto
from tests.recorder.builders import an_event, numbers, url

pytestmark = [pytest.mark.broker, pytest.mark.timeout(90)]

RECORDED_BEFORE = 3000
"""More than fits into a pipe and what is read ahead of it."""


@contextmanager
def service(name: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-m", f"services.{name}"], env=environment)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


@asynccontextmanager
async def a_node(broker: Mosquitto) -> AsyncIterator[NodeBus]:
    remote = MqttBus(Connection(url=broker.url), "node", "n1")
    with Outbox(None) as outbox:
        bus = NodeBus("n1", "boot", remote, outbox, frozenset({Writer.COLLECTOR}))
        tasks = [asyncio.create_task(one.run()) for one in (remote, bus)]
        try:
            yield bus
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


class Page:
    """An open page of events: follows one stream, and asks anew when that tells of something."""

    def __init__(self, address: str) -> None:
        self._client = httpx2.AsyncClient(base_url=address, timeout=60)
        self.shown: list[int] = []
        """The numbers of the node's events, the newest first."""
        self.streams = 0

    async def follow(self) -> None:
        async with self._client as client, client.stream("GET", "/events") as stream:
            self.streams += 1
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    news = json.loads(line.removeprefix("data: ")).get("news", [])
                    if any(one["node"] == "n1" for one in news):
                        await self._ask()

    async def _ask(self) -> None:
        answer = await self._client.get("/api/history/events", params={"node": "n1", "limit": 100})
        # While the recorder is away a page keeps what it shows.
        if answer.status_code == 200:
            self.shown = [row["sequence"] for row in answer.json()["rows"]]


async def exported(command: asyncio.subprocess.Process, beginning: bytes) -> list[Any]:
    assert command.stdout
    text = beginning + await command.stdout.read()
    assert await command.wait() == 0
    return [row["sequence"] for row in json.loads(text)]


async def test_pages_and_exports_go_on_when_the_recorder_is_killed(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        old = [an_event(number, node="old") for number in range(1, RECORDED_BEFORE + 1)]
        await store.write(numbers(*old), now=NOW)
    port = free_port()
    with contextlib.ExitStack() as processes:
        broker = processes.enter_context(Mosquitto(tmp_path))
        environment = os.environ | {
            "GLEANER_BUS__URL": broker.url,
            "GLEANER_NODE__DATA_DIRECTORY": str(tmp_path),
            "GLEANER_WEB__LISTEN": f"127.0.0.1:{port}",
        }
        victim = processes.enter_context(service("recorder", environment))
        processes.enter_context(service("web", environment))
        await until((tmp_path / "health" / "web").exists, 30)
        page = Page(f"http://127.0.0.1:{port}")
        following = asyncio.create_task(page.follow())
        async with a_node(broker) as node:
            await until(lambda: page.streams == 1)
            for number in range(1, 6):
                node.record(EventKind.PROBLEM, {"what": "test", "text": str(number)})
            await until(lambda: page.shown == [5, 4, 3, 2, 1], 20)
            what = ("export", "data", "events", "-", "--format", "json", "--node", "old")
            command = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gleaner.cli", *what),
                env=environment,
                stdout=asyncio.subprocess.PIPE,
            )
            assert command.stdout
            # It goes on no further than the pipe has room: it is in the middle of its pages.
            beginning = await command.stdout.readline()

            victim.kill()
            victim.wait()
            for number in range(6, 11):
                node.record(EventKind.PROBLEM, {"what": "test", "text": str(number)})
            processes.enter_context(service("recorder", environment))

            await until(lambda: page.shown == [*range(10, 0, -1)], 30)
            assert await exported(command, beginning) == [*range(RECORDED_BEFORE, 0, -1)]
            assert node.unrecorded == 0
        assert page.streams == 1
        assert not following.done(), "the stream of the page was cut"
        following.cancel()
        await asyncio.wait([following])
