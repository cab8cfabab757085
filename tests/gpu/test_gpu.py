"""The same questions to a GPU and its driver, real (`make test-gpu`) or stood in for.

What is measured is printed: `pytest -s`.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gleaner.bus.messages import CauseKind, GpuState, Holder, Run
from gleaner.settings import GpuSettings
from services.collector.interface import Sweep
from services.collector.nvml.capture import capture
from services.collector.nvml.driver import OPENING, NvmlSource
from services.collector.simulated.replay import CaptureSource
from tests.builders import until
from tests.gpu.machine import MEGABYTES, PROGRAM, CudaStranger, Machine
from tests.nvml_stand_in import MIB
from tests.python import python_for_others
from tests.system import System

pytestmark = pytest.mark.timeout(120)

GENTLY = 30.0
"""A real driver may take seconds to be opened."""
MEMORY_TOLERANCE_BYTES = 200 * MIB
DIRECT = "{python} {program} {told} {megabytes}"
WRAPPED = "{wrapper} {python} {program} {told} {megabytes}"
DAEMON = "{python} {daemon} {python} {program} {told} {megabytes}"
WRAPPER = """#!/bin/sh
# As people write them: not with exec.
"$@"
exit $?
"""
GRANDPARENT = """
import os, signal, subprocess, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.argv[1], sys.argv[1:])
    os._exit(0)
signal.pause()
"""


@pytest.fixture
def stranger(machine: Machine, common_path: Path) -> Iterator[list[CudaStranger]]:
    """Where a test puts its stranger, so that it ends in any case."""
    there: list[CudaStranger] = []
    yield there
    for one in there:
        one.end()


def system_with(machine: Machine, directory: Path, command: str | None) -> System:
    """Return a system on a machine, with one entry for GPU 0 or with none."""
    program = directory / "fold.py"
    program.write_text(PROGRAM.read_text())
    wrapper, daemon = directory / "start.sh", directory / "daemon.py"
    wrapper.write_text(WRAPPER)
    wrapper.chmod(0o755)
    daemon.write_text(GRANDPARENT)
    words = (command or "").format(
        python=python_for_others(),
        program=program,
        told=directory / "told",
        wrapper=wrapper,
        daemon=daemon,
        megabytes=MEGABYTES,
    )
    settings = "".join(f'{key} = "{value}"\n' for key, value in machine.environment.items())
    return System(
        directory,
        stand_in=machine.stand_in,
        device_directory=machine.device_directory,
        environment=machine.environment,
        gpu="telemetry_seconds = 1",
        workloads=""
        if command is None
        else f"""
[[workload]]
name = "fold"
command = "{words}"
gpus = [0]
grace_seconds = 5
{'user = "nobody"' if os.geteuid() == 0 else ""}
[workload.environment]
{settings}
""",
    )


def memory_of(system: System) -> int | None:
    """Return how much memory GPU 0 has in use, by the last telemetry."""
    reading = system.reading(0)
    return reading.memory_used_bytes if reading else None


async def swept(source: NvmlSource) -> Sweep:
    """Return the first sweep after the driver was opened."""
    while (sweep := await source.sweep()).problem == OPENING:
        pass
    return sweep


async def test_readings_are_plausible_and_what_is_missing_has_its_reason(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    source = NvmlSource(GENTLY, machine.device_directory)
    sweep = await swept(source)
    # What is dear to ask is asked one by one: three questions to each GPU.
    for _ in range(3 * len(sweep.gpus)):
        sweep = await source.sweep()
    hardware = await source.hardware()
    await source.close()

    assert sweep.problem is None
    assert hardware.driver_version
    assert len(sweep.gpus) >= machine.gpus
    for gpu, one in zip(hardware.gpus, sweep.gpus, strict=True):
        assert gpu.name
        assert gpu.gpu.startswith(("GPU-", "MIG-"))
        reading = one.reading.model_dump(exclude={"problems", "unattributed_memory_bytes", "xids"})
        missing = {name for name, value in reading.items() if value is None}
        assert missing == set(one.reading.problems) & set(reading)
        assert one.processes is not None
        bounds = {
            "utilization_percent": (0, 100),
            "memory_utilization_percent": (0, 100),
            "memory_used_bytes": (0, one.reading.memory_total_bytes or 0),
            "memory_total_bytes": (256 * MIB, 2**50),
            "temperature_celsius": (1, 120),
            "power_watts": (0.5, 3000),
            "power_limit_watts": (5, 3000),
            "fan_percent": (0, 200),
            "sm_clock_mhz": (1, 10_000),
            "memory_clock_mhz": (1, 50_000),
            "performance_state": (0, 15),
            "memory_reserved_bytes": (0, one.reading.memory_total_bytes or 0),
            "memory_temperature_celsius": (1, 120),
            "encoder_percent": (0, 100),
            "decoder_percent": (0, 100),
            "graphics_clock_mhz": (1, 10_000),
            "video_clock_mhz": (1, 10_000),
            "pcie_generation": (1, 10),
            "pcie_width": (1, 32),
            "pcie_sent_bytes_per_second": (0, 1e12),
            "pcie_received_bytes_per_second": (0, 1e12),
            "remapped_rows_correctable": (0, 10_000),
            "retired_pages": (0, 10_000),
        }
        for name, (least, most) in bounds.items():
            value = reading[name]
            assert value is None or least <= value <= most, f"{name} is {value}"
    for device in hardware.devices.values():
        assert stat.S_ISCHR(device.stat().st_mode)
    print(f"\n{machine.name}: missing {sweep.gpus[0].reading.problems or 'nothing'}")


async def test_a_capture_is_recorded_and_plays_back(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "gpu.capture"

    settings = GpuSettings(check_seconds=0.2)
    assert await capture(path, 2 if not machine.is_real else 10, settings) >= 2

    played = CaptureSource(path, machine.device_directory)
    sweep = await played.sweep()
    answers = [json.loads(line)["answer"] for line in path.read_text().splitlines()]
    first = next(answer for answer in answers if "sweep" in answer)
    assert sweep.gpus[0].reading.gpu == first["sweep"][0]["gpu"]
    assert sweep.gpus[0].reading.temperature_celsius == (
        first["sweep"][0]["values"].get("temperature_celsius")
    )


async def test_a_cuda_process_of_somebody_else_makes_our_run_leave(
    machine: Machine, common_path: Path, stranger: list[CudaStranger]
) -> None:
    system = system_with(machine, common_path, DIRECT)
    async with system:
        await system.until(lambda: system.run_on(0) is not None, GENTLY)
        run = system.run_on(0)
        assert run

        stranger.append(CudaStranger(machine, common_path))
        somebody = stranger[0]
        await until(lambda: system.told_to_leave(run.run) is not None, GENTLY)
        await until(lambda: somebody.at("memory") is not None, GENTLY)

        told, start = system.told_to_leave(run.run), somebody.at("start")
        init, context = somebody.at("init"), somebody.at("context")
        assert told
        assert start
        assert init
        assert context
        # It may be told in the midst of cuInit, which takes seconds on a large machine.
        assert start < told < context + 1_200_000_000
        await system.until(lambda: _left(system, run.run) is not None, GENTLY)
        left = _left(system, run.run)
        assert left
        assert left.cause
        assert left.cause.kind is CauseKind.GPU_PROCESS
        assert str(somebody.process.pid) in left.cause.text
        print(
            f"\n{machine.name}: TERM {(told - start) / 1e6:.1f} ms after the start of cuInit "
            f"(which took {(init - start) / 1e6:.1f} ms), "
            f"{(told - context) / 1e6:.1f} ms after the context; {left.stages}"
        )


async def test_after_a_cuda_process_has_gone_the_gpu_is_idle_with_its_memory_back(
    machine: Machine, common_path: Path, stranger: list[CudaStranger]
) -> None:
    system = system_with(machine, common_path, None)
    async with system:
        await system.until(lambda: _is(system, "idle") and memory_of(system) is not None, GENTLY)
        before = memory_of(system)
        assert before is not None
        stranger.append(CudaStranger(machine, common_path))
        await until(lambda: stranger[0].at("memory") is not None, GENTLY)
        await system.until(
            lambda: (
                (memory_of(system) or 0) >= before + MEGABYTES * MIB
                and any("compute" in holder.kinds for holder in _holders(system))
            ),
            GENTLY,
        )

        stranger.pop().end()

        await system.until(lambda: _is(system, "idle"), GENTLY)
        await system.until(
            lambda: (memory_of(system) or 2**50) < before + MEMORY_TOLERANCE_BYTES, GENTLY
        )


@pytest.mark.parametrize("command", [DIRECT, WRAPPED, DAEMON], ids=["direct", "script", "daemon"])
async def test_a_cuda_process_of_ours_is_known_as_ours_and_gives_its_memory_back(
    machine: Machine, common_path: Path, stranger: list[CudaStranger], command: str
) -> None:
    system = system_with(machine, common_path, command)
    async with system:
        await system.until(lambda: system.run_on(0) is not None, GENTLY)
        run = system.run_on(0)
        assert run
        await system.until(
            lambda: any("compute" in holder.kinds for holder in _holders(system)), GENTLY
        )
        gpu = system.gpu(0)
        assert gpu
        assert (gpu.state, {holder.run for holder in gpu.holders}) == ("ours", {run.run})
        assert system.told_to_leave(run.run) is None

        stranger.append(CudaStranger(machine, common_path))
        await system.until(lambda: _left(system, run.run) is not None, GENTLY)
        stranger[0].end()
        await system.until(lambda: _cleared(system, run.run) is not None, GENTLY)

        cleared = _cleared(system, run.run)
        assert cleared
        assert cleared.stages
        assert cleared.stages.exit_to_clear is not None, cleared.reason
        print(f"\n{machine.name}: {cleared.stages}")


def _is(system: System, state: str) -> bool:
    gpu: GpuState | None = system.gpu(0)
    return gpu is not None and gpu.state == state


def _holders(system: System) -> tuple[Holder, ...]:
    gpu = system.gpu(0)
    return gpu.holders if gpu else ()


def _left(system: System, run: str) -> Run | None:
    found = (one for one in system.said(Run) if one.run == run and one.cause)
    return next(found, None)


def _cleared(system: System, run: str) -> Run | None:
    found = (one for one in system.said(Run) if one.run == run and one.state.is_final)
    return next(found, None)
