"""The commands, asked of a running `gleaner up` as an operator would."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gleaner.cli.machine.broker import free_port
from tests.system import ROOT, Stranger, System

pytestmark = pytest.mark.e2e


class Desk:
    """A running system, and a shell beside it."""

    def __init__(self, system: System, web_port: int) -> None:
        self.system = system
        self._web_port = web_port

    def arguments(self, *words: str) -> list[str]:
        """Return the command line of a command."""
        config = str(self.system.configuration)
        return [sys.executable, "-m", "gleaner.cli", *words, "--config", config]

    async def gleaner(self, *words: str) -> tuple[int, str, str]:
        """Run a command; return status, output and errors."""
        process = await asyncio.create_subprocess_exec(
            *self.arguments(*words),
            env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(process.communicate(), 20)
        return process.returncode or 0, output.decode(), errors.decode()

    async def told(self, *words: str) -> str:
        """Run a command that must succeed; return what it said."""
        status, output, errors = await self.gleaner(*words)
        assert (status, errors) == (0, "")
        return output

    async def get(self, path: str) -> str:
        """Return a page."""
        url = f"http://127.0.0.1:{self._web_port}{path}"

        def read() -> str:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())

        return await asyncio.to_thread(read)

    async def node(self) -> dict[str, Any]:
        """Return the node as the API has it."""
        found: dict[str, Any] = json.loads(await self.get("/api/nodes/n1"))
        return found

    async def running(self, count: int) -> None:
        """Wait until so many workloads run."""
        await self.system.until(lambda: len(self.system.runs()) == count)


@asynccontextmanager
async def a_desk(directory: Path) -> AsyncIterator[Desk]:
    port = free_port()
    more = f'[web]\nlisten = "127.0.0.1:{port}"'
    async with System(directory, up=True, more=more) as system:
        desk = Desk(system, port)
        await desk.running(2)
        yield desk


async def test_a_pause_stops_what_runs_and_everybody_says_so_until_it_is_resumed(
    common_path: Path,
) -> None:
    async with a_desk(common_path) as desk:
        assert "paused" in await desk.told("pause", "--for", "1h", "--reason", "a new fan")

        await desk.running(0)
        why = await desk.told("why", "n1:0")
        status = await desk.told("status")
        page = await desk.get("/")
        events = await desk.told("events", "-n", "50")
        assert "a new fan" in why
        assert "paused: everything, by " in status
        assert all(" until 2" in answer for answer in (why, status))
        assert "The fleet is paused" in page
        assert "cancelled: the fleet is paused by " in events

        assert await desk.told("resume") == "the fleet is resumed\n"
        await desk.running(2)
        assert await desk.gleaner("resume") == (0, "the fleet was not paused\n", "")


async def test_a_drain_starts_nothing_new_and_leaves_what_runs(common_path: Path) -> None:
    async with a_desk(common_path) as desk:
        runs = {run.run for run in desk.system.runs()}
        stranger = Stranger()
        try:
            await desk.told("drain", "n1", "--reason", "new driver")
            assert {run.run for run in desk.system.runs()} == runs

            stranger.open(desk.system.devices[0])
            await desk.running(1)
            why = await desk.told("why", "n1:0")
            assert "drained by " in why
            assert "new driver" in why
            assert "has the device open" in why
            stranger.close(desk.system.devices[0])
            await desk.system.until(lambda: _is_idle(desk.system, 0))
            assert (await desk.node())["drain"]["reason"] == "new driver"
            assert len(desk.system.runs()) == 1

            await desk.told("undrain", "n1")
            await desk.running(2)
        finally:
            stranger.end()


def _is_idle(system: System, index: int) -> bool:
    gpu = system.gpu(index)
    return gpu is not None and gpu.state == "idle"


async def test_events_are_followed_status_is_for_programs_and_mistakes_have_their_codes(
    common_path: Path,
) -> None:
    async with a_desk(common_path) as desk:
        stranger = Stranger()
        following, watching = [
            await asyncio.create_subprocess_exec(
                *desk.arguments(*words),
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
            )
            for words in (("events", "--follow"), ("status", "--watch"))
        ]
        try:
            view = json.loads(await desk.told("status", "--json"))
            runs = {run.run for run in desk.system.runs()}
            assert {gpu["run"] for gpu in view["nodes"][0]["gpus"]} == runs
            assert "fold on n1: 2 runs of it" in await desk.told("why", "fold")
            assert await desk.told("health", "node") == "node is well\n"

            stranger.open(desk.system.devices[1])
            await _says(following, b"evicted: GPU 1: ")
            await _says(watching, b"busy")

            for words, code in (
                (("why", "nonsense"), 1),
                (("pause", "nonsense"), 1),
                (("pause", "--for", "soon"), 2),
                (("drain",), 2),
                (("health", "nonsense"), 2),
            ):
                status, _, errors = await desk.gleaner(*words)
                assert (words, status) == (words, code)
                assert errors
        finally:
            stranger.end()
            for process in (following, watching):
                process.terminate()
                await process.wait()


async def _says(process: asyncio.subprocess.Process, words: bytes) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        while words not in (line := await process.stdout.readline()):
            assert line
