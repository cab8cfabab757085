"""What is there already comes once more: one clear line, and the first one goes on."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gleaner.bus.messages import Availability, Inventory
from gleaner.cli.machine.broker import free_port
from tests.system import ROOT, Stranger, System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


class Second:
    """A service, or `gleaner up`, that is started beside a system; what it says is kept."""

    def __init__(self, system: System, name: str, **environment: str) -> None:
        what = ["gleaner.cli", "up"] if name == "up" else [f"services.{name}"]
        self._log = system.directory / f"second-{name}-{len(environment)}-{id(self)}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *what, "--config", str(system.configuration)],
                env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
                cwd=system.directory,
                stderr=log,
            )

    def said(self) -> str:
        """Return what it said so far."""
        return self._log.read_text()

    async def ended(self, system: System) -> tuple[int | None, str]:
        """Wait until it ends by itself; return its status and its one line of trouble."""
        await system.until(lambda: self.process.poll() is not None)
        assert "Traceback" not in self.said()
        usual = (" INFO ", " WARNING ")
        (line,) = (one for one in self.said().splitlines() if not any(map(one.__contains__, usual)))
        return self.process.returncode, line


Start = Callable[..., Second]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start second ones; none is left when the test is over."""
    started: list[Second] = []

    def one(system: System, name: str, **environment: str) -> Second:
        started.append(Second(system, name, **environment))
        return started[-1]

    yield one
    for second in started:
        if second.process.poll() is None:
            second.process.terminate()
        second.process.wait(40)


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    somebody = Stranger()
    yield somebody
    somebody.end()


@pytest.fixture
def no_broker() -> Iterator[int]:
    """Return a port at which a web server, and no broker, answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):
                        connection.recv(1000)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


async def test_whoever_comes_second_says_so_and_the_first_goes_on(
    common_path: Path, no_broker: int, stranger: Stranger, start: Start
) -> None:
    system = System(common_path, gpus=1, keeps_logs=True)
    data, elsewhere = "GLEANER_NODE__DATA_DIRECTORY", common_path / "elsewhere"
    key = Path("keys", "scheduler.key")
    (elsewhere / "same" / key.parent).mkdir(parents=True)
    async with system:
        await system.until(lambda: len(system.runs()) == 1)
        before = {run.run: run.pid for run in system.runs()}
        shutil.copy(common_path / "data" / key, elsewhere / "same" / key)

        lost = start(
            system,
            "node",
            GLEANER_NODE__ID="n2",
            GLEANER_BUS__URL=f"mqtt://127.0.0.1:{no_broker}",
            **{data: str(elsewhere / "n2")},
        )
        same_key = start(system, "scheduler", **{data: str(elsewhere / "same")})
        other_key = start(system, "scheduler", **{data: str(elsewhere / "other")})
        status, line = await same_key.ended(system)
        assert (status, "another scheduler was here first (with our own key)" in line) == (1, True)
        status, line = await other_key.ended(system)
        assert (status, "another scheduler was here first (its key is" in line) == (1, True)

        same_id = start(system, "node", **{data: str(elsewhere / "n1")})
        same_data = start(system, "node")
        web = start(system, "web", GLEANER_WEB__LISTEN=f"127.0.0.1:{no_broker}")
        status, line = await same_id.ended(system)
        assert (status, "node.id n1: another node of this name" in line) == (2, True)
        status, line = await same_data.ended(system)
        expected = f"{common_path}/data/node: another runner has this data directory"
        assert (status, expected in line) == (1, True)
        status, line = await web.ended(system)
        assert (status, f"web.listen 127.0.0.1:{no_broker}: the port is taken" in line) == (1, True)
        assert lost.said().count("did not answer it as an MQTT broker does") == 1
        lost.process.terminate()
        assert lost.process.wait(10) == 0

        assert "another node calls itself n1 too" in system.log("node")
        await system.until(lambda: "the other node called n1 is silent" in system.log("node"))
        assert {run.run: run.pid for run in system.runs()} == before
        assert system.told.read_text().count("ready") == 1
        assert all(process.poll() is None for process in system.processes.values())
        assert [fact.node for fact in system.facts(Inventory)] == ["n1"]
        assert {one.instance for one in system.said(Availability)} == {"main", "n1", "system"}

        stranger.open(system.devices[0])
        await system.until(lambda: system.runs() == [])
        stranger.close(system.devices[0])
        await system.until(lambda: len(system.runs()) == 1)


async def test_a_second_gleaner_up_names_the_first_and_touches_nothing(
    common_path: Path, start: Start
) -> None:
    web = f'[web]\nlisten = "127.0.0.1:{free_port()}"'
    system = System(common_path, gpus=1, up=True, more=web)
    async with system:
        await system.until(lambda: len(system.runs()) == 1, 40)

        second = start(system, "up")
        pid = system.processes["up"].pid
        expected = f"gleaner up runs already with {common_path}/data (pid {pid})"
        assert await second.ended(system) == (1, expected)

        assert len(system.runs()) == 1
        assert (common_path / "data" / "broker" / "endpoint.json").exists()
