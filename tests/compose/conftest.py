"""Images built once, and one deployment that the stories share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.deployment import Deployment
from tests.nvml_stand_in import StandIn, a_gpu, build
from tests.system import WORKLOAD, make_devices

NODE_FILE = """
services:
  node: &stand_in
    environment:
      NVML_STAND_IN: /gpus/nvml
    volumes:
      - {directory}/dev:/gpus
      - {library}:/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1:ro
  collector:
    <<: *stand_in
  runner:
    <<: *stand_in
"""
CONFIGURATION = """
[node.gpu]
device_directory = "/gpus"
[node.people]
whitelist = ["root"]
idle_seconds = 1
[[workload]]
name = "fold"
command = "/usr/bin/python3 {directory}/workloads/workload.py {directory}/workloads/told"
user = "nobody"
"""


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    path = Path(tempfile.mkdtemp(prefix="gleaner-compose-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def images(folder: Path) -> None:
    """All images, of the files as they are now."""
    Deployment(folder / "build", "gleaner-test-build").compose("--profile", "node", "build")


@pytest.fixture(scope="session")
def gpu(folder: Path) -> StandIn:
    """A GPU of this machine: a real device file, and a library that tells of it."""
    make_devices(folder / "dev", 1)
    stand_in = StandIn(library=build(folder), file=folder / "dev" / "nvml", gpus=[a_gpu(0)])
    stand_in.write()
    return stand_in


@pytest.fixture(scope="session")
def deployment(images: None, folder: Path, gpu: StandIn) -> Iterator[Deployment]:
    """The server side, started by nothing but `up`; and the files of a host that may join it."""
    extra = folder / "stand-in.yml"
    extra.write_text(NODE_FILE.format(directory=folder, library=gpu.library))
    project = f"gleaner-test-{os.getpid()}"
    one = Deployment(folder, project, extra, GLEANER_GPU_IDLE_SECONDS="1")
    (folder / "etc" / "gleaner.toml").write_text(CONFIGURATION.format(directory=folder))
    workloads = folder / "workloads"
    (workloads / "workload.py").write_text(WORKLOAD)
    (workloads / "told").touch()
    (workloads / "told").chmod(0o666)
    try:
        one.up()
        yield one
    finally:
        one.down("-v")


@pytest.fixture
def second(images: None, folder: Path, tmp_path: Path) -> Iterator[Deployment]:
    """Another server side beside it, which is not started yet."""
    one = Deployment(tmp_path, f"gleaner-test-{os.getpid()}-second")
    try:
        yield one
    finally:
        one.down("-v")
