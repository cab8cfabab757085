"""The real pynvml in the real child process, over a stand-in for NVIDIA's library."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from gleaner.settings import GpuSettings
from services.collector.interface import DriverProcess, Sweep
from services.collector.nvml import driver as adapter
from services.collector.nvml.capture import capture
from services.collector.nvml.driver import NvmlSource
from services.collector.simulated.replay import CaptureSource
from services.collector.source import open_source
from tests.collector.conftest import swept
from tests.nvml_stand_in import MIB, StandIn

pytestmark = pytest.mark.real


@pytest.fixture
def quick_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "BACKOFF_SECONDS", (0.1, 0.2))


async def sweep_until(source: NvmlSource, problem: str | None, seconds: float = 10) -> Sweep:
    deadline = time.monotonic() + seconds
    while True:
        sweep = await source.sweep()
        if sweep.problem == problem or (problem and problem in (sweep.problem or "")):
            return sweep
        assert time.monotonic() < deadline, sweep.problem
        await asyncio.sleep(0.02)


async def test_readings_come_in_the_units_of_their_names(source: NvmlSource) -> None:
    await swept(source)
    # What is dear to ask is asked one by one: three questions to each of two GPUs.
    for _ in range(5):
        sweep = await source.sweep()

    reading = sweep.gpus[0].reading
    assert sweep.problem is None
    assert reading.problems == {}
    assert reading.model_dump(exclude={"problems", "ages_seconds", "xids"}) == {
        "gpu": "GPU-0",
        "index": 0,
        "utilization_percent": 0,
        "memory_utilization_percent": 0,
        "memory_used_bytes": 4 * MIB,
        "memory_total_bytes": 1000 * MIB,
        "memory_reserved_bytes": 2 * MIB,
        "unattributed_memory_bytes": None,
        "temperature_celsius": 31,
        "memory_temperature_celsius": 42,
        "power_watts": 71.5,
        "power_limit_watts": 700,
        "fan_percent": 0,
        "sm_clock_mhz": 345,
        "memory_clock_mhz": 2619,
        "performance_state": 0,
        "energy_joules": 1234.567,
        "throttle_reasons": ("gpu_idle",),
        "graphics_clock_mhz": 345,
        "video_clock_mhz": 765,
        "encoder_percent": 0,
        "decoder_percent": 3,
        "pcie_generation": 1,
        "pcie_generation_max": 5,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "pcie_sent_bytes_per_second": 2048,
        "pcie_received_bytes_per_second": 3072,
        "ecc_corrected_errors": 1,
        "ecc_uncorrected_errors": 0,
        "ecc_aggregate_corrected_errors": 3,
        "ecc_aggregate_uncorrected_errors": 2,
        "remapped_rows_correctable": 1,
        "remapped_rows_uncorrectable": 0,
        "remapping_pending": False,
        "remapping_failed": False,
        "retired_pages": 3,
        "retired_pages_pending": False,
        "recovery_action": "none",
        "processes": (),
    }


async def test_the_hardware_is_named(source: NvmlSource) -> None:
    await swept(source)
    hardware = await source.hardware()

    assert hardware.driver_version == "570.1"
    assert hardware.devices == {"GPU-0": Path("/dev/nvidia0"), "GPU-1": Path("/dev/nvidia1")}
    assert hardware.gpus[1].model_dump(exclude_none=True) == {
        "gpu": "GPU-1",
        "index": 1,
        "minor": 1,
        "name": "NVIDIA Stand-in",
        "memory_total_bytes": 1000 * MIB,
        "power_limit_watts": 700,
        "pci_bus_id": "00000000:02:00.0",
        "schedulable": True,
    }


async def test_a_process_on_several_lists_is_one_process(source: NvmlSource, nvml: StandIn) -> None:
    nvml.processes = [
        (0, "compute", 41, 100),
        (0, "graphics", 41, 100),
        (0, "mps", 42, -1),
        (1, "compute", 41, 7),
    ]
    nvml.write()

    sweep = await swept(source)

    assert sweep.gpus[0].processes == (
        DriverProcess(pid=41, kinds=frozenset({"compute", "graphics"}), memory_used_bytes=100),
        DriverProcess(pid=42, kinds=frozenset({"mps"}), memory_used_bytes=None),
    )
    assert sweep.gpus[1].processes == (
        DriverProcess(pid=41, kinds=frozenset({"compute"}), memory_used_bytes=7),
    )


async def test_what_a_gpu_lacks_is_none_with_its_reason(source: NvmlSource, nvml: StandIn) -> None:
    nvml.gpus[0] |= {
        "nvmlDeviceGetFanSpeed": "fail 3",
        "nvmlDeviceGetPowerUsage": "fail 4",
        "nvmlDeviceGetTemperature": "fail 999",
        "energy_millijoules": 2**64 - 1,
    }
    nvml.write()

    reading = (await swept(source)).gpus[0].reading

    assert (reading.fan_percent, reading.power_watts, reading.temperature_celsius) == (None,) * 3
    assert reading.energy_joules is None
    assert reading.problems == {
        "fan_percent": "unsupported",
        "power_watts": "no permission",
        "temperature_celsius": "Unknown Error",
        "energy_joules": "not available",
    }
    assert reading.sm_clock_mhz == 345


async def test_a_reading_that_failed_once_is_back_with_the_next_sweep(
    source: NvmlSource, nvml: StandIn
) -> None:
    nvml.gpus[0]["nvmlDeviceGetTemperature"] = "fail 999"
    nvml.write()
    assert (await swept(source)).gpus[0].reading.temperature_celsius is None
    del nvml.gpus[0]["nvmlDeviceGetTemperature"]
    nvml.write()

    reading = (await swept(source)).gpus[0].reading

    assert reading.temperature_celsius == 31
    assert reading.problems == {}


async def test_an_old_driver_says_its_memory_in_the_first_version(
    source: NvmlSource, nvml: StandIn
) -> None:
    nvml.gpus[0] |= {"nvmlDeviceGetMemoryInfo_v2": "fail 13", "memory_used_v1": 600 * MIB}
    nvml.write()

    assert (await swept(source)).gpus[0].reading.memory_used_bytes == 600 * MIB


async def test_a_lost_gpu_does_not_hurt_the_other(source: NvmlSource, nvml: StandIn) -> None:
    await swept(source)
    nvml.gpus[0]["nvmlDeviceGetUtilizationRates"] = "fail 15"
    nvml.write()

    sweep = await swept(source)

    assert sweep.gpus[0].lost == "GPU is lost"
    assert sweep.gpus[0].processes is None
    assert sweep.gpus[1].lost is None
    assert sweep.gpus[1].reading.temperature_celsius == 31


async def test_a_failed_process_list_means_that_nobody_knows(
    source: NvmlSource, nvml: StandIn
) -> None:
    nvml.gpus[0]["nvmlDeviceGetComputeRunningProcesses_v3"] = "fail 999"
    nvml.write()

    sweep = await swept(source)

    assert sweep.gpus[0].processes is None
    assert sweep.gpus[1].processes == ()


async def test_a_driver_before_510_has_the_second_version_of_the_lists(
    source: NvmlSource, nvml: StandIn
) -> None:
    for kind in ("Compute", "Graphics", "MPSCompute"):
        nvml.gpus[0][f"nvmlDeviceGet{kind}RunningProcesses_v3"] = "fail 13"
    nvml.processes = [(0, "compute", 41, 100)]
    nvml.write()

    processes = (await swept(source)).gpus[0].processes

    assert processes
    assert processes[0].pid == 41


async def test_lists_that_are_not_supported_leave_the_device_files(
    source: NvmlSource, nvml: StandIn
) -> None:
    for kind in ("Compute", "Graphics", "MPSCompute"):
        nvml.gpus[0][f"nvmlDeviceGet{kind}RunningProcesses_v3"] = "fail 3"
    nvml.write()

    for _ in range(2):
        gpu = (await swept(source)).gpus[0]
        assert (gpu.processes, gpu.driver_asked) == ((), False)


@pytest.mark.usefixtures("quick_restart")
async def test_an_upgraded_driver_is_named_and_a_new_process_recovers(
    source: NvmlSource, nvml: StandIn
) -> None:
    await swept(source)
    first = source.child_pid
    nvml.gpus[1]["nvmlDeviceGetUtilizationRates"] = "fail 18"
    nvml.system["nvmlInitWithFlags"] = "fail 18"
    nvml.write()
    await sweep_until(source, "the driver was upgraded")
    assert (await source.hardware()).gpus[0].gpu == "GPU-0"
    del nvml.gpus[1]["nvmlDeviceGetUtilizationRates"]
    del nvml.system["nvmlInitWithFlags"]
    nvml.write()

    sweep = await sweep_until(source, None)

    assert len(sweep.gpus) == 2
    assert source.child_pid != first


@pytest.mark.usefixtures("quick_restart")
async def test_a_hung_driver_is_named_within_its_deadline_and_recovers(
    source: NvmlSource, nvml: StandIn
) -> None:
    await swept(source)
    nvml.gpus[0]["nvmlDeviceGetTemperature"] = "hang"
    nvml.write()
    started = time.monotonic()

    sweep = await source.sweep()

    assert "the driver has not answered since" in (sweep.problem or "")
    assert sweep.gpus == ()
    assert 0.4 < time.monotonic() - started < 0.9
    del nvml.gpus[0]["nvmlDeviceGetTemperature"]
    nvml.write()
    await sweep_until(source, None)


@pytest.mark.usefixtures("quick_restart")
async def test_no_second_child_is_started_while_the_first_is_stuck(
    source: NvmlSource, nvml: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    await swept(source)
    first = source.child_pid
    nvml.gpus[0]["nvmlDeviceGetTemperature"] = "hang"
    nvml.write()
    with monkeypatch.context() as patch:
        # A process that is stuck in the driver does not die of SIGKILL either.
        patch.setattr(adapter, "_kill", lambda pidfd: None)
        said = {(await source.sweep()).problem for _ in range(5)}
        assert len(said) == 1
        assert source.child_pid == first
    del nvml.gpus[0]["nvmlDeviceGetTemperature"]
    nvml.write()
    assert first
    os.kill(first, signal.SIGKILL)

    await sweep_until(source, None)

    assert source.child_pid != first


async def test_a_killed_child_is_named_and_back_within_its_back_off(source: NvmlSource) -> None:
    await swept(source)
    assert source.child_pid
    os.kill(source.child_pid, signal.SIGKILL)
    killed = time.monotonic()
    await sweep_until(source, "the process that asks the driver was ended by signal 9")

    await sweep_until(source, None)

    assert 0.9 < time.monotonic() - killed < 2


@pytest.mark.usefixtures("quick_restart")
async def test_a_gpu_that_a_new_child_no_longer_finds_is_lost(
    source: NvmlSource, nvml: StandIn
) -> None:
    await swept(source)
    del nvml.gpus[1]
    nvml.write()
    assert source.child_pid
    os.kill(source.child_pid, signal.SIGKILL)
    await sweep_until(source, "signal 9")

    sweep = await sweep_until(source, None)

    assert [(gpu.gpu, gpu.lost) for gpu in sweep.gpus] == [
        ("GPU-0", None),
        ("GPU-1", "the driver no longer lists it"),
    ]
    assert len((await source.hardware()).gpus) == 2


async def test_a_gpu_that_cannot_be_opened_is_said_and_the_rest_works(
    source: NvmlSource, nvml: StandIn
) -> None:
    nvml.gpus[0]["nvmlDeviceGetHandleByIndex_v2"] = "fail 15"
    nvml.write()

    sweep = await swept(source)

    assert [gpu.gpu for gpu in sweep.gpus] == ["GPU-1"]
    assert (await source.hardware()).limitations == ("GPU 0 cannot be asked: GPU is lost",)


async def test_a_stranger_on_a_mig_parent_is_on_all_its_instances(
    source: NvmlSource, nvml: StandIn
) -> None:
    nvml.gpus[0] |= {"mig": 1, "mig_devices": 7, "nvmlDeviceGetUtilizationRates": "fail 3"}
    nvml.mig = {100: {"uuid": "MIG-a", "name": "1g"}, 102: {"uuid": "MIG-b", "name": "1g"}}
    nvml.processes = [(100, "compute", 7, 5), (0, "compute", 7, 5), (0, "compute", 8, 5)]
    nvml.write()

    sweep = await swept(source)
    hardware = await source.hardware()

    assert [(gpu.gpu, gpu.index, gpu.parent, gpu.schedulable) for gpu in hardware.gpus] == [
        ("GPU-0", 0, None, False),
        ("GPU-1", 1, None, True),
        ("MIG-a", 2, "GPU-0", True),
        ("MIG-b", 3, "GPU-0", True),
    ]
    there = {gpu.gpu: [one.pid for one in gpu.processes or ()] for gpu in sweep.gpus}
    assert there == {"GPU-0": [7, 8], "GPU-1": [], "MIG-a": [7, 8], "MIG-b": [8]}


async def test_mig_devices_that_are_made_or_taken_apart_later_are_seen(
    source: NvmlSource, nvml: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "HARDWARE_SECONDS", 0.0)
    nvml.gpus[0] |= {"mig": 1, "mig_devices": 7}
    nvml.mig = {100: {"uuid": "MIG-a", "name": "1g"}}
    nvml.write()
    await swept(source)
    child = source.child_pid

    async def listed() -> list[tuple[str, int]]:
        await source.sweep()
        return [(gpu.gpu, gpu.index) for gpu in (await source.hardware()).gpus]

    assert await listed() == [("GPU-0", 0), ("GPU-1", 1), ("MIG-a", 2)]
    nvml.mig = {100: {"uuid": "MIG-b", "name": "2g"}, 101: {"uuid": "MIG-a", "name": "1g"}}
    nvml.write()
    assert await listed() == [("GPU-0", 0), ("GPU-1", 1), ("MIG-b", 3), ("MIG-a", 2)]
    assert [gpu.gpu for gpu in (await source.sweep()).gpus][2:] == ["MIG-b", "MIG-a"]
    nvml.gpus[0]["mig"] = 0
    nvml.mig = {}
    nvml.write()
    assert await listed() == [("GPU-0", 0), ("GPU-1", 1)]
    assert (await source.hardware()).gpus[0].schedulable
    assert source.child_pid == child


async def test_the_child_ends_with_its_input(source: NvmlSource) -> None:
    await swept(source)
    child = source._child
    assert child
    assert child.stdin
    child.stdin.close()

    assert await asyncio.wait_for(child.wait(), 5) == 0


async def test_the_child_is_small(source: NvmlSource) -> None:
    for _ in range(3):
        await swept(source)

    status = Path(f"/proc/{source.child_pid}/status").read_text()

    assert int(status.partition("VmRSS:")[2].split()[0]) < 20_000


async def test_without_the_library_the_device_files_are_used_and_it_is_said(
    nvml: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH")

    source = await open_source(GpuSettings(device_directory=tmp_path))

    assert source.name == "device-files"
    said = (await source.hardware()).limitations
    assert said[0].startswith("NVML cannot be used (NVML Shared Library Not Found)")


async def test_auto_keeps_a_driver_that_was_upgraded(nvml: StandIn) -> None:
    nvml.system["nvmlInitWithFlags"] = "fail 18"
    nvml.write()

    source = await open_source(GpuSettings())

    assert isinstance(source, NvmlSource)
    await source.close()


async def test_a_capture_plays_back_what_the_driver_said(nvml: StandIn, tmp_path: Path) -> None:
    nvml.processes = [(0, "compute", 4711, 5 * MIB)]
    nvml.gpus[1]["nvmlDeviceGetFanSpeed"] = "fail 3"
    nvml.write()
    path = tmp_path / "capture.jsonl"

    assert await capture(path, 0.6, GpuSettings(check_seconds=0.05)) >= 2
    played = CaptureSource(path, Path("/dev"))

    assert "GPU-0" not in path.read_text()
    sweep = await played.sweep()
    assert (await played.hardware()).gpus[0].name == "NVIDIA Stand-in"
    assert sweep.gpus[0].processes == (
        DriverProcess(pid=4711, kinds=frozenset({"compute"}), memory_used_bytes=5 * MIB),
    )
    assert sweep.gpus[1].reading.problems == {"fan_percent": "unsupported"}
