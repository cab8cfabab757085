"""A host with a GPU, in containers: a real device file, a stand-in library, a real workload."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collector.pseudo_terminal import PseudoTerminal
from tests.compose.deployment import Deployment, wait
from tests.system import Stranger, processes_with

pytestmark = [pytest.mark.compose, pytest.mark.timeout(120, func_only=True)]


@pytest.fixture
def enrolment(deployment: Deployment) -> Iterator[str]:
    """What the host is given; nothing of it is left when the test is over."""
    yield deployment.enroll("gpuhost")
    deployment.compose("--profile", "node", "rm", "-fs", "node")
    deployment.compose("--profile", "node-apart", "rm", "-fs", "collector", "runner")
    deployment.gleaner("enroll", "gpuhost", "--remove")


def test_a_filler_runs_and_leaves_when_somebody_comes(
    deployment: Deployment, folder: Path, enrolment: str
) -> None:
    deployment.compose("up", "-d", "node", GLEANER_ENROLMENT=enrolment)
    a_filler_runs_and_leaves(deployment, folder, "node")

    # What it was given once is kept on the host; now in two containers.
    deployment.compose("--profile", "node", "rm", "-fs", "node")
    assert not processes_with(str(folder / "workloads" / "workload.py"))
    deployment.compose("up", "-d", "collector", "runner")
    a_filler_runs_and_leaves(deployment, folder, "collector", "runner")
    wait(lambda: deployment.health("collector") == deployment.health("runner") == "healthy", 30)


def a_filler_runs_and_leaves(deployment: Deployment, folder: Path, *services: str) -> None:
    """Wait for a filler on the GPU, open its device as somebody else, and see it leave."""
    workload = str(folder / "workloads" / "workload.py")
    wait(lambda: processes_with(workload), 45, lambda: deployment.logs(*services))
    wait(lambda: run_state(deployment) == "running", 20, lambda: deployment.logs(*services))
    node = deployment.node("gpuhost")
    assert node
    assert node["source"] == "nvml"
    assert node["notices_opens_by"] == "fanotify"
    with PseudoTerminal() as somebody:
        somebody.types()
        wait(lambda: somebody.where in places(deployment), 10)
    told = folder / "workloads" / "told"
    asked = told.read_text().count("term")
    stranger = Stranger(environment=dict(os.environ))
    try:
        stranger.open(folder / "dev" / "nvidia0")
        wait(lambda: told.read_text().count("term") > asked, 10, lambda: deployment.logs(*services))
        wait(lambda: not processes_with(workload), 10)
        wait(lambda: gpu_state(deployment) == "busy", 10)
    finally:
        stranger.end()


def places(deployment: Deployment) -> list[str]:
    """Return where somebody sits at the host."""
    node = deployment.node("gpuhost")
    return [one["where"] for one in node["people"]] if node else []


def gpu_state(deployment: Deployment) -> str | None:
    """Return the state of the GPU, as the API says."""
    node = deployment.node("gpuhost")
    return node["gpus"][0]["state"] if node and node["gpus"] else None


def run_state(deployment: Deployment) -> str | None:
    """Return the state of the run on the GPU, as the API says."""
    node = deployment.node("gpuhost")
    live = [run["state"] for run in node["runs"] if run["current"]] if node else []
    return live[0] if live else None
