"""Payloads that nobody should send, on every topic: everything goes on, and says so once."""

from __future__ import annotations

import sqlite3
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.messages import Availability, RequestKind, SchedulerState
from gleaner.cli.machine.broker import free_port
from gleaner.client import Client
from gleaner.namesake import NEW_SECONDS
from tests.faults.bad import Intruder, malformed, strange
from tests.system import System

BELIEVED = frozenset({Availability, SchedulerState})
"""Well formed, these would be obeyed: another scheduler with a higher term, a node that left."""
HEARD_BY_NODE = ("n1/beat", "scheduler/beat", "n1/desired", "n1/recorded", "n1/event")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


async def test_bad_messages_on_every_topic_stop_nothing(common_path: Path) -> None:
    port = free_port()
    system = System(
        common_path,
        apart=True,
        services=("scheduler", "recorder", "web"),
        more=f'[web]\nlisten = "127.0.0.1:{port}"',
        keeps_logs=True,
    )
    async with system:
        intruder = Intruder(system.broker)
        await system.until(lambda: len(system.runs()) == 2)
        before = {run.run: run.pid for run in system.runs()}
        ready_at = time.monotonic()

        try:
            intruder.say_all(malformed("n1"))
            intruder.say_all(strange("n2", without=BELIEVED))
            # Until then a node gives way to another of its name.
            await system.until(lambda: time.monotonic() - ready_at > NEW_SECONDS)
            # What the node's runner takes from others, the collector's beat included.
            intruder.say_all(
                one for one in strange("n1", without=BELIEVED) if one[0].endswith(HEARD_BY_NODE)
            )
            await system.until(lambda: kept_aside(common_path) > 100)
            await system.until(lambda: page(port) == 200)
        finally:
            intruder.end()

        async with Client(Connection(url=system.broker.url), "test") as client:
            answer = await client.request(RequestKind.PAUSE, node="n1", reason="maintenance")
        assert answer.ok
        assert {run.run: run.pid for run in system.runs()} == before
        await system.until(lambda: system.runs() == [])
        for name in system.names:
            assert system.processes[name].poll() is None, name
            lines = system.log(name).splitlines()
            ignored = [line for line in lines if "ignored a message: " in line]
            topics = [line.partition("ignored a message: ")[2].split()[0] for line in ignored]
            assert len(topics) == len(set(topics)), "one line for each topic"
            assert max(map(len, lines)) < 800
            assert "Traceback" not in system.log(name)
            assert all(line.isprintable() for line in lines)


def kept_aside(directory: Path) -> int:
    """Return how many unreadable payloads the recorder kept."""
    with closing(sqlite3.connect(directory / "data" / "recorder" / "gleaner.sqlite")) as database:
        found: int = database.execute("SELECT count(*) FROM dead_letter").fetchone()[0]
    return found


def page(port: int) -> int:
    """Return the status of the page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        status: int = answer.status
        return status
