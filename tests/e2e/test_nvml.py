"""What NVIDIA's driver says, through the whole system to the page: a stand-in says it.

Nobody opens a device here, and nobody could: all is known from the driver alone. One system with a
GPU for each story; the stories in which the whole driver fails have systems of their own.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from gleaner.bus.messages import CauseKind, GpuState, Inventory, Run
from gleaner.cli.machine.broker import free_port
from tests.nvml_stand_in import MIB, StandIn, a_gpu
from tests.system import NOBODYS_NUMBERS, System, processes_with

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(90),
    pytest.mark.asyncio(loop_scope="module"),
]

LISTED, REMAINS, LOST, HELD, OURS, MIG, BROKEN = range(7)
GPUS = 7
MIG_INSTANCES = {100 * (MIG + 1) + number: f"MIG-{number}" for number in range(2)}


class Told(System):
    """A system whose driver says what a test tells it to say."""

    def __init__(self, directory: Path, stand_in: StandIn, gpu: str = "") -> None:
        self.port = free_port()
        self.nvml = stand_in
        stand_in.write()
        super().__init__(
            directory,
            gpus=len(stand_in.gpus),
            services=("scheduler", "web"),
            stand_in=stand_in,
            device_numbers=NOBODYS_NUMBERS,
            gpu=gpu,
            more=f'[web]\nlisten = "127.0.0.1:{self.port}"',
        )

    def is_on(self, index: int, state: str) -> bool:
        """Whether a GPU is said to be this."""
        gpu = self.gpu(index)
        return gpu is not None and gpu.state == state

    def is_over_there(self, index: int, state: str, words: str) -> bool:
        """Whether a GPU is said to be this, for a reason with these words."""
        gpu = self.gpu(index)
        return self.is_on(index, state) and gpu is not None and words in " ".join(gpu.reasons)

    def left_because(self, run: str) -> Run | None:
        """Return what is known of a run that was told to leave."""
        if self.told_to_leave(run) is None:
            return None
        return next((one for one in self.facts(Run) if one.run == run and one.cause), None)

    def page(self) -> str:
        """Return the page as the server draws it."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as answer:
            return str(answer.read().decode())

    async def shows(self, words: str) -> None:
        """Wait until the page has these words on it."""
        deadline = time.monotonic() + 5
        while words not in (page := await asyncio.to_thread(self.page)):
            assert time.monotonic() < deadline, f"{words!r} is not on the page: {page}"
            await asyncio.sleep(0.1)

    async def why(self, target: str) -> str:
        """Return what `gleaner why` says."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gleaner.cli", "why", target, "--config", self.configuration,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        said, _ = await process.communicate()
        return said.decode()

    async def run_of(self, index: int) -> Run:
        """Wait for a run on a GPU, and return it."""
        await self.until(lambda: self.run_on(index) is not None)
        run = self.run_on(index)
        assert run
        return run


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(nvml_library: Path) -> AsyncIterator[Told]:
    """One system for all stories that leave the driver as such alone."""
    with tempfile.TemporaryDirectory(prefix="gleaner-") as name:
        stand_in = StandIn(library=nvml_library, file=Path(name) / "nvml")
        stand_in.gpus = [a_gpu(number) for number in range(GPUS)]
        stand_in.gpus[MIG] |= {"mig": 1, "mig_devices": 7}
        stand_in.mig = {
            number: {"uuid": uuid, "name": "NVIDIA Stand-in MIG 1g.10gb"}
            for number, uuid in MIG_INSTANCES.items()
        }
        async with Told(Path(name), stand_in, "held_after_seconds = 2") as told:
            yield told


@contextmanager
def somebody() -> Iterator[subprocess.Popen[bytes]]:
    """Somebody else's process, which opens nothing at all."""
    user = 65534 if os.geteuid() == 0 else None
    with subprocess.Popen(["sleep", "600"], user=user, cwd="/") as process:
        try:
            yield process
        finally:
            process.kill()


async def test_a_process_that_only_the_driver_knows_of_evicts_at_the_next_check(
    system: Told,
) -> None:
    run = await system.run_of(LISTED)
    with somebody() as process:
        system.nvml.processes.append((LISTED, "compute", process.pid, 300 * MIB))
        system.nvml.write()
        listed_at = time.monotonic_ns()

        await system.until(lambda: system.left_because(run.run) is not None)

        left, told_at = system.left_because(run.run), system.told_to_leave(run.run)
        assert left
        assert left.cause
        assert left.cause.kind is CauseKind.GPU_PROCESS
        assert f"computes (pid {process.pid}, sleep)" in left.cause.text
        assert told_at
        assert told_at - listed_at < 1_500_000_000
        await system.until(lambda: system.is_on(LISTED, "busy"))


async def test_a_process_that_has_ended_and_is_still_listed_keeps_the_gpu_dirty(
    system: Told,
) -> None:
    # It ended with the test before.
    ((_, _, pid, _),) = (one for one in system.nvml.processes if one[0] == LISTED)
    words = f"the driver lists pid {pid}, which cannot be found"

    await system.until(lambda: system.is_over_there(LISTED, "dirty", words))

    await system.shows(words)
    assert words in await system.why(f"n1:{LISTED}")
    assert system.run_on(LISTED) is None


async def test_work_goes_on_when_the_driver_has_forgotten_it(system: Told) -> None:
    system.nvml.processes = [one for one in system.nvml.processes if one[0] != LISTED]
    system.nvml.write()

    await system.run_of(LISTED)


async def test_memory_left_behind_is_dirty_until_it_is_given_back(system: Told) -> None:
    await system.run_of(REMAINS)
    with somebody() as process:
        entry = (REMAINS, "compute", process.pid, 500 * MIB)
        system.nvml.processes.append(entry)
        system.nvml.gpus[REMAINS]["memory_used"] = 504 * MIB
        system.nvml.write()
        await system.until(lambda: system.is_on(REMAINS, "busy") and not system.run_on(REMAINS))
    system.nvml.processes.remove(entry)
    system.nvml.write()

    words = "memory is in use by nobody we can name"
    await system.until(lambda: system.is_over_there(REMAINS, "dirty", words))
    await system.shows(words)
    assert system.run_on(REMAINS) is None

    system.nvml.gpus[REMAINS]["memory_used"] = 4 * MIB
    system.nvml.write()
    await system.run_of(REMAINS)


async def test_a_lost_gpu_loses_its_run_and_the_others_go_on(system: Told) -> None:
    run, other = await system.run_of(LOST), await system.run_of(OURS)
    system.nvml.gpus[LOST]["nvmlDeviceGetUtilizationRates"] = "fail 15"
    system.nvml.write()

    await system.until(lambda: system.left_because(run.run) is not None)

    left = system.left_because(run.run)
    assert left
    assert left.cause
    assert left.cause.kind is CauseKind.GPU_LOST
    await system.until(lambda: system.is_over_there(LOST, "lost", "GPU is lost"))
    await system.shows("GPU is lost")
    assert system.told_to_leave(other.run) is None


async def test_a_gpu_that_reports_a_critical_error_loses_its_run(system: Told) -> None:
    run, other = await system.run_of(BROKEN), await system.run_of(OURS)
    system.nvml.xids.append((BROKEN, 48))
    system.nvml.write()

    await system.until(lambda: system.left_because(run.run) is not None)

    left = system.left_because(run.run)
    assert left
    assert left.cause
    assert left.cause.kind is CauseKind.GPU_LOST
    words = "memory error that could not be corrected; the GPU needs a reset"
    await system.until(lambda: system.is_over_there(BROKEN, "lost", words))
    await system.shows(words)
    assert words in await system.why(f"n1:{BROKEN}")
    reading = system.reading(BROKEN)
    assert reading
    assert [(xid.number, xid.count) for xid in reading.xids or ()] == [(48, 1)]
    assert system.told_to_leave(other.run) is None


async def test_a_gpu_that_somebody_holds_for_nothing_is_shown_with_who_and_since(
    system: Told,
) -> None:
    await system.run_of(HELD)
    with somebody() as process:
        entry = (HELD, "compute", process.pid, 300 * MIB)
        system.nvml.processes.append(entry)
        system.nvml.write()

        words = f"(pid {process.pid}, sleep) holds it and does nothing"
        await system.until(lambda: system.is_over_there(HELD, "held", words))

        gpu = system.gpu(HELD)
        assert gpu
        assert [holder.pid for holder in gpu.holders] == [process.pid]
        assert gpu.holders[0].started_at
        await system.shows(words)
        assert words in await system.why(f"n1:{HELD}")
        assert system.run_on(HELD) is None
        system.nvml.processes.remove(entry)
        system.nvml.write()


async def test_our_own_workload_in_the_drivers_list_is_ours(system: Told) -> None:
    run = await system.run_of(OURS)
    assert run.pid
    system.nvml.processes.append((OURS, "compute", run.pid, 700 * MIB))
    system.nvml.gpus[OURS]["memory_used"] = 704 * MIB
    system.nvml.write()

    def is_ours() -> bool:
        gpu = system.gpu(OURS)
        return gpu is not None and any("compute" in holder.kinds for holder in gpu.holders)

    await system.until(is_ours)

    gpu = system.gpu(OURS)
    assert gpu
    assert (gpu.state, gpu.reasons) == ("ours", (f"run {run.run}",))
    assert gpu.holders[0].run == run.run
    assert system.told_to_leave(run.run) is None


async def test_mig_instances_are_put_to_work_and_their_gpu_is_not(system: Told) -> None:
    def busy_with_us() -> set[str]:
        return {gpu for run in system.runs() for gpu in run.gpus}

    await system.until(lambda: set(MIG_INSTANCES.values()) <= busy_with_us())

    assert f"GPU-{MIG}" not in busy_with_us()
    parent = next(gpu for fact in system.facts(Inventory) for gpu in fact.gpus if gpu.index == MIG)
    assert not parent.schedulable


async def test_who_is_on_one_mig_instance_leaves_the_other_to_us(system: Told) -> None:
    first, second = MIG_INSTANCES

    def run_in(instance: int) -> Run | None:
        found = (run for run in system.runs() if MIG_INSTANCES[instance] in run.gpus)
        return next(found, None)

    await system.until(lambda: bool(run_in(first) and run_in(second)))
    run, other = run_in(first), run_in(second)
    assert run
    assert other
    with somebody() as process:
        system.nvml.processes += [
            (first, "compute", process.pid, MIB),
            (MIG, "compute", process.pid, MIB),
        ]
        system.nvml.write()

        await system.until(lambda: system.left_because(run.run) is not None)
        assert system.told_to_leave(other.run) is None


DOUBT_SECONDS = 10


class Unanswered:
    """A system of its own in which the driver stops answering, and what becomes of its runs."""

    def __init__(self, system: Told) -> None:
        self._system = system
        self.children: set[int] = set()
        """How many processes asked the driver at one moment."""

    async def watch(self) -> None:
        """Count the processes that ask the driver, until cancelled."""
        while True:
            node = self._system.processes["node"].pid
            found = await asyncio.to_thread(processes_with, "nvml_child.py")
            mine = [pid for pid, line in found.items() if line.rstrip().endswith(f" {node}")]
            self.children.add(len(mine))
            await asyncio.sleep(0.05)

    async def live(self, fail: Callable[[], None], words: str, mend: Callable[[], None]) -> None:
        """Tell the story."""
        system = self._system
        run = await system.run_of(0)
        watching = asyncio.create_task(self.watch())
        fail()
        system.nvml.write()
        failed_at = time.monotonic()
        heard = len(system.heard)

        await system.until(
            lambda: all(system.is_over_there(index, "unknown", words) for index in (0, 1)), 5
        )
        await system.shows(words)
        await system.until(lambda: system.left_because(run.run) is not None, DOUBT_SECONDS + 3)
        assert time.monotonic() - failed_at > DOUBT_SECONDS - 1
        left = system.left_because(run.run)
        assert left
        assert left.cause
        assert left.cause.kind is CauseKind.GPU_UNKNOWN

        said = {fact.state for fact in system.heard[heard:] if isinstance(fact, GpuState)}
        assert said == {"unknown"}
        mend()
        system.nvml.write()
        await system.until(lambda: len(system.runs()) == 2, 15)
        watching.cancel()
        await asyncio.wait([watching])
        assert max(self.children) == 1, self.children


async def a_driver_fails(
    library: Path, gpu: str, words: str, failures: dict[tuple[int | None, str], str]
) -> None:
    """Play one story: the functions fail, and are mended again."""
    with tempfile.TemporaryDirectory(prefix="gleaner-") as name:
        nvml = StandIn(library=library, file=Path(name) / "nvml")

        def fail() -> None:
            for (device, function), how in failures.items():
                (nvml.system if device is None else nvml.gpus[device])[function] = how

        def mend() -> None:
            for device, function in failures:
                del (nvml.system if device is None else nvml.gpus[device])[function]

        async with Told(Path(name), nvml, gpu) as system:
            await Unanswered(system).live(fail, words, mend)


async def test_runs_leave_a_driver_that_was_upgraded_or_hangs_and_come_back(
    nvml_library: Path,
) -> None:
    async with asyncio.TaskGroup() as both:
        both.create_task(
            a_driver_fails(
                nvml_library,
                "",
                "the driver was upgraded",
                {
                    (1, "nvmlDeviceGetUtilizationRates"): "fail 18",
                    (None, "nvmlInitWithFlags"): "fail 18",
                },
            )
        )
        both.create_task(
            a_driver_fails(
                nvml_library,
                "deadline_seconds = 0.5",
                "the driver has not answered since",
                {(0, "nvmlDeviceGetTemperature"): "hang"},
            )
        )
