"""A host with a GPU, in containers: a real device file, a stand-in library, a real workload."""

from __future__ import annotations

import functools
import os
import subprocess
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
    who_works_in_a_container_is_named_by_it(deployment, folder / "dev" / "nvidia0")


def who_works_in_a_container_is_named_by_it(deployment: Deployment, gpu: Path) -> None:
    """Hold the device from within another container: its people know it by its name."""
    name = f"notebook-{os.getpid()}"
    docker = functools.partial(subprocess.run, check=True, stdout=subprocess.DEVNULL)
    docker(["docker", "run", "-d", "--rm", "--name", name, "--user", "65534", f"--device={gpu}",
            "debian:bookworm-slim", "sh", "-c", f"exec sleep 600 <{gpu}"])  # fmt: skip
    try:
        wait(lambda: name in containers(deployment), 15, lambda: str(deployment.node("gpuhost")))
    finally:
        docker(["docker", "rm", "-f", name])
    wait(lambda: not containers(deployment), 15)


def a_filler_runs_and_leaves(deployment: Deployment, folder: Path, *services: str) -> None:
    """Wait for a filler on the GPU, open its device as somebody else, and see it leave."""
    workload = str(folder / "workloads" / "workload.py")
    wait(lambda: processes_with(workload), 45, lambda: deployment.logs(*services))
    told = folder / "workloads" / "told"
    wait(lambda: is_ready(deployment, told), 20, lambda: deployment.logs(*services))
    node = deployment.node("gpuhost")
    assert node
    assert node["source"] == "nvml"
    assert node["notices_opens_by"] == "fanotify"
    with PseudoTerminal() as somebody:
        somebody.types()
        wait(lambda: somebody.where in places(deployment), 10)
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


def containers(deployment: Deployment) -> list[str]:
    """Return the containers in which somebody holds the GPU, as the API says."""
    node = deployment.node("gpuhost")
    holders = node["gpus"][0]["holders"] if node and node["gpus"] else []
    return [one["container_name"] for one in holders if one["container"]]


def gpu_state(deployment: Deployment) -> str | None:
    """Return the state of the GPU, as the API says."""
    node = deployment.node("gpuhost")
    return node["gpus"][0]["state"] if node and node["gpus"] else None


def is_ready(deployment: Deployment, told: Path) -> bool:
    """Whether the run on the GPU runs, as the API says, and would hear that it must leave."""
    node = deployment.node("gpuhost")
    live = [run for run in node["runs"] if run["current"]] if node else []
    return any(
        run["state"] == "running" and f"ready {run['run']} " in told.read_text() for run in live
    )
