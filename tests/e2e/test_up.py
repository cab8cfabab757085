"""`gleaner up`: everything starts, everything that dies comes back, and nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.up import Up, command, with_pid

pytestmark = pytest.mark.e2e

CHILDREN = ["broker", "node", "scheduler", "recorder", "web"]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with Up(tmp_path) as system:
        yield system


def test_the_page_has_live_gpus_soon_after_the_start(up: Up) -> None:
    page = up.wait(lambda: up.page(), 20, "the page answers")
    run = up.wait(lambda: up.workloads(), 20, "the workload runs")

    assert up.says("the page is at http://127.0.0.1:")
    print(f"page after {page:.1f} s, workload {run:.1f} s later")


def test_it_says_what_it_found(up: Up) -> None:
    up.wait(lambda: up.says("gleaner up: n1: "), 20, "a line about the node")

    (line,) = [line for line in up.lines if line.startswith("gleaner up: n1: ")]
    assert "programs are noticed" in line


def test_ctrl_c_leaves_no_process_behind(up: Up) -> None:
    up.wait(lambda: up.workloads(), 30, "the workload runs")

    up.ctrl_c()

    up.wait(lambda: not up.pids(), 20, "all processes are gone")
    assert up.process.wait(5) == 0
    assert up.says("gleaner up: stopped")
    assert not up.says("Traceback")


def test_runs_end_before_services_and_these_before_the_broker(up: Up) -> None:
    up.wait(lambda: up.workloads(), 30, "the workload runs")
    seen: list[str] = []

    up.ctrl_c()
    up.wait(lambda: _note(up, seen) == 0, 20, "all processes are gone")

    assert seen.index("node") < seen.index("scheduler") < seen.index("broker")


def _note(up: Up, seen: list[str]) -> int:
    """Note who is gone, in order; return how many are left."""
    pids = up.pids()
    words = {
        "node": "services.node",
        "scheduler": "services.scheduler",
        "broker": "mosquitto",
    }
    running = " ".join(command(pid) for pid in pids)
    seen += [name for name, word in words.items() if word not in running and name not in seen]
    return len(pids)


def test_a_taken_port_is_said_and_another_one_is_used(tmp_path: Path) -> None:
    up = Up(tmp_path)
    with (
        socket.create_server(("127.0.0.1", up.bus_port)),
        socket.create_server(("127.0.0.1", up.web_port)),
        up,
    ):
        up.wait(lambda: up.says("the page is at"), 20, "the page answers")

        assert up.says(f"127.0.0.1:{up.bus_port} is taken by another program")
        assert up.says(f"web.listen: port {up.web_port} of 127.0.0.1 is taken")


def test_a_second_one_with_the_same_data_is_refused(up: Up) -> None:
    up.wait(lambda: up.says("the page is at"), 20, "the page answers")

    second = subprocess.run(
        [sys.executable, "-m", "gleaner.cli", "up", "--config", str(up.config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    assert second.returncode == 1
    assert second.stderr == (
        f"gleaner up runs already with {up.directory}/data (pid {up.process.pid})\n"
    )


@pytest.mark.parametrize("name", CHILDREN)
def test_what_is_killed_comes_back_and_nothing_runs_twice(up: Up, name: str) -> None:
    up.wait(lambda: up.workloads(), 30, "the workload runs")
    up.wait(lambda: up.page(), 20, "the page answers")
    killed = up.child(name)
    assert killed is not None

    with_pid(killed, signal.SIGKILL)

    up.wait(lambda: up.child(name) not in (None, killed), 5, f"{name} is back")
    up.wait(lambda: _runs_once(up) and _healthy(up, name), 35, f"{name} is well")
    assert up.says(f"{name} was ended by SIGKILL; starting it again")


def _runs_once(up: Up) -> bool:
    count = len(up.workloads())
    assert count < 2, "the workload runs twice"
    return count == 1


def _healthy(up: Up, name: str) -> bool:
    """Whether a service works again, by what `gleaner health` says; the broker by its clients."""
    file = up.directory / "data" / "health" / ("node" if name == "broker" else name)
    pid = up.child("node" if name == "broker" else name)
    if pid is None:
        return False
    born = Path("/proc", str(pid)).stat().st_mtime
    return file.exists() and file.stat().st_mtime > born + 1


def test_nothing_outlives_up_when_it_is_killed(up: Up) -> None:
    up.wait(lambda: up.workloads(), 30, "the workload runs")

    up.process.kill()

    up.wait(lambda: not up.pids(), 35, "all processes are gone")


def test_a_machine_without_gpu_gets_a_simulated_node(tmp_path: Path) -> None:
    with Up(tmp_path, with_gpu=False) as up:
        up.wait(lambda: up.says("gleaner up: simulated: "), 30, "the simulated node")

        assert up.says("this machine has no NVIDIA GPU: a simulated node is added")
        status = subprocess.run(
            [sys.executable, "-m", "gleaner.cli", "status", "--json", "--config", str(up.config)],
            capture_output=True,
            check=True,
            env=os.environ,
        )
        nodes = {node["node"]: node for node in json.loads(status.stdout)["nodes"]}
        assert nodes["simulated"]["simulated"]
        assert len(nodes["simulated"]["gpus"]) == 4
        assert nodes["n1"]["gpus"] == []
        for node in nodes:
            up.wait(lambda node=node: up.says(f" node {node}: "), 10, f"a line of {node}")
