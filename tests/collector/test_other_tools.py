"""What gpustat and nvitop say of the same driver and the same processes, Gleaner says too."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gleaner.bus.messages import GpuInventory, GpuReading, Inventory, Telemetry
from tests.builders import until
from tests.collector.test_collect import Machine
from tests.nvml_stand_in import MIB, StandIn

pytestmark = pytest.mark.real

NVITOP = """
import json
from nvitop import Device

def process(one):
    return [one.pid, one.username(), one.gpu_memory(), one.gpu_sm_utilization()]

print(json.dumps([
    {
        "uuid": gpu.uuid(),
        "name": gpu.name(),
        "utilization": gpu.gpu_utilization(),
        "memory_utilization": gpu.memory_utilization(),
        "encoder": gpu.encoder_utilization(),
        "decoder": gpu.decoder_utilization(),
        "memory_used": gpu.memory_used(),
        "memory_total": gpu.memory_total(),
        "temperature": gpu.temperature(),
        "fan": gpu.fan_speed(),
        "power": gpu.power_usage(),
        "power_limit": gpu.power_limit(),
        "clocks": list(gpu.clock_infos()),
        "state": gpu.performance_state(),
        "pcie": [gpu.pcie_tx_throughput(), gpu.pcie_rx_throughput()],
        "ecc": gpu.total_volatile_uncorrected_ecc_errors(),
        "processes": sorted(process(one) for one in gpu.processes().values()),
    }
    for gpu in Device.all()
]))
"""

Told = list[dict[str, Any]]


async def printed(*words: str) -> Any:
    """Return what a program prints, which is JSON."""
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=subprocess.PIPE)
    text, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(text)


class Published:
    """What Gleaner has said last of each GPU."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def readings(self) -> tuple[GpuReading, ...]:
        return next(
            (one.gpus for one in reversed(self._machine.said) if isinstance(one, Telemetry)), ()
        )

    def inventory(self) -> tuple[GpuInventory, ...]:
        return next(one.gpus for one in self._machine.said if isinstance(one, Inventory))

    def processes(self, gpu: str) -> list[list[Any]]:
        """Return pid, user and memory of each that the driver lists."""
        return sorted(
            [one.pid, one.user, one.memory_used_bytes]
            for one in self._machine.last[gpu].holders
            if set(one.kinds) != {"device_open"}
        )


@pytest.fixture
async def published(common_path: Path, nvml: StandIn) -> AsyncIterator[Published]:
    machine = Machine(common_path)
    try:
        theirs = machine.somebody("sleep", "600").pid
        with subprocess.Popen(["sleep", "600"]) as ours:
            try:
                nvml.without_device_files()
                nvml.gpus[0] |= {
                    "name": "NVIDIA Stand-in 80GB", "utilization": 87, "memory_utilization": 41,
                    "encoder": 4, "memory_used": 704 * MIB, "temperature": 66, "fan": 30,
                    "power_milliwatts": 412_345, "sm_clock": 1980, "graphics_clock": 1965, "ecc": 2,
                }  # fmt: skip
                nvml.processes = [
                    (0, "compute", theirs, 300 * MIB),
                    (0, "compute", ours.pid, 400 * MIB),
                    (0, "graphics", ours.pid, 400 * MIB),
                    (1, "compute", theirs, 2 * MIB),
                ]
                nvml.shares = [(0, theirs, 60, 20, 0, 0), (0, ours.pid, 27, 21, 4, 3)]
                nvml.write()
                await machine.start(source="nvml", check_seconds=0.05, telemetry_seconds=0.1)
                said = Published(machine)
                # Of what is dear to ask, one is asked in each check.
                await until(
                    lambda: (
                        bool(said.readings())
                        and all(one.pcie_received_bytes_per_second for one in said.readings())
                    )
                )
                yield said
            finally:
                ours.kill()
    finally:
        await machine.stop()


async def test_what_gpustat_prints_is_what_gleaner_says(published: Published) -> None:
    told: Told = (await printed("-m", "gpustat", "--json"))["gpus"]

    said = [
        {
            "index": reading.index,
            "uuid": reading.gpu,
            "name": gpu.name,
            "temperature.gpu": reading.temperature_celsius,
            "fan.speed": reading.fan_percent,
            "utilization.gpu": reading.utilization_percent,
            "utilization.enc": reading.encoder_percent,
            "utilization.dec": reading.decoder_percent,
            # It cuts off what is less than a watt.
            "power.draw": int(reading.power_watts or 0),
            "enforced.power.limit": int(reading.power_limit_watts or 0),
            "memory.used": (reading.memory_used_bytes or 0) / MIB,
            "memory.total": (reading.memory_total_bytes or 0) / MIB,
            "processes": [
                [pid, user, memory / MIB] for pid, user, memory in published.processes(gpu.gpu)
            ],
        }
        for gpu, reading in zip(published.inventory(), published.readings(), strict=True)
    ]
    for gpu in told:
        gpu["processes"] = sorted(
            [one["pid"], one["username"], one["gpu_memory_usage"]] for one in gpu["processes"]
        )
    assert said == told
    assert len(said[0]["processes"]) == 2


async def test_what_nvitop_prints_is_what_gleaner_says(published: Published) -> None:
    told: Told = await printed("-c", NVITOP)

    said = []
    for gpu, one in zip(published.inventory(), published.readings(), strict=True):
        shares = {process.pid: process.utilization_percent for process in one.processes or ()}
        sent, received = one.pcie_sent_bytes_per_second, one.pcie_received_bytes_per_second
        said.append(
            {
                "uuid": one.gpu,
                "name": gpu.name,
                "utilization": one.utilization_percent,
                "memory_utilization": one.memory_utilization_percent,
                "encoder": one.encoder_percent,
                "decoder": one.decoder_percent,
                "memory_used": one.memory_used_bytes,
                "memory_total": one.memory_total_bytes,
                "temperature": one.temperature_celsius,
                "fan": one.fan_percent,
                "power": round((one.power_watts or 0) * 1000),
                "power_limit": round((one.power_limit_watts or 0) * 1000),
                "clocks": [
                    one.graphics_clock_mhz,
                    one.sm_clock_mhz,
                    one.memory_clock_mhz,
                    one.video_clock_mhz,
                ],
                "state": f"P{one.performance_state}",
                "pcie": [(sent or 0) / 1024, (received or 0) / 1024],
                "ecc": one.ecc_uncorrected_errors,
                "processes": [
                    [pid, user, memory, shares[pid]]
                    for pid, user, memory in published.processes(one.gpu)
                ],
            }
        )
    assert said == told
