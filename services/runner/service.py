"""The runner as a service of its own, or as a part of the node's one process."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from gleaner import runtime
from gleaner.bus.local import NodeBus
from gleaner.bus.message import Writer
from gleaner.bus.mqtt import MqttBus
from gleaner.bus.outbox import Outbox
from gleaner.bus.signature import Verifier
from gleaner.namesake import Namesake
from services.runner import cgroup
from services.runner.launcher import Launcher
from services.runner.process import ProcessLauncher
from services.runner.runner import Runner
from services.runner.settings import RunnerSettings
from services.runner.simulated import SimulatedLauncher
from services.runner.timing import Timing

logger = logging.getLogger(__name__)


async def run_node(
    bus: NodeBus,
    settings: RunnerSettings,
    *,
    apart: bool = False,
    launcher: Launcher | None = None,
    timing: Timing | None = None,
) -> None:
    """Run until cancelled, `alone` with the directory; every run has ended when this returns.

    `apart`: the collector is another process, so it must hear of a run before that starts.
    """
    timing = timing or Timing()
    try:
        verifier = Verifier(list(settings.node.scheduler_keys))
    except ValueError as error:
        raise runtime.Fatal(f"node.scheduler_keys: {error}") from error
    launcher = launcher or _launcher(settings, timing)
    await Runner(bus, settings, launcher, verifier, timing, apart=apart).run()


async def serve(settings: RunnerSettings) -> None:
    """Run on a node whose collector is another process."""
    runtime.go_first(settings.node.gpu.source)
    directory, node = settings.node.data_directory, settings.node.id
    runtime.keep_enrolment(settings.bus, directory)
    remote = MqttBus(runtime.connection(settings.bus), "runner", node)
    with alone(directory), Outbox(directory / "runner" / "outbox.sqlite") as outbox:
        bus = NodeBus(node, runtime.boot_id(), remote, outbox, frozenset({Writer.RUNNER}))
        namesake = Namesake(bus, remote, "runner")
        async with asyncio.TaskGroup() as tasks:
            around = [
                tasks.create_task(remote.run(), name="bus"),
                tasks.create_task(bus.run(), name="outbox"),
                tasks.create_task(runtime.keep_healthy(directory, "runner", remote), name="health"),
                tasks.create_task(namesake.watch(), name="namesake"),
            ]
            try:
                await run_node(bus, settings, apart=True)
            finally:
                for task in around:
                    task.cancel()


def _make_directory(directory: Path) -> None:
    """Make our part of the data directory; specs hold environments, so they are private."""
    runs = directory / "node" / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    runs.chmod(0o700)


def _launcher(settings: RunnerSettings, timing: Timing) -> Launcher:
    if settings.node.gpu.source == "simulated":
        return SimulatedLauncher()
    directory, groups = settings.node.data_directory.absolute(), cgroup.find()
    launcher = ProcessLauncher(directory / "node" / "beat", groups, timing)
    for limitation in launcher.limitations:
        logger.warning("%s", limitation)
    return launcher


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Make and hold the data directory: two runners on one would start things twice."""
    directory = directory.absolute()
    try:
        _make_directory(directory)
    except OSError as error:
        raise runtime.Fatal(f"node.data_directory: {error}") from error
    path = directory / "node" / "runner.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise runtime.Fatal(f"{path.parent}: another runner has this data directory") from error
    try:
        yield
    finally:
        os.close(handle)
