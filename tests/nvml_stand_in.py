"""Builds the stand-in for NVIDIA's library and says what it shall say."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).parent / "collector" / "nvml_stand_in.c"
MIB = 1024 * 1024

Value = int | str


def build(directory: Path) -> Path:
    """Compile the stand-in into a directory and return the library."""
    library = directory / "libnvidia-ml.so.1"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", library, SOURCE],
        check=True,
    )
    return library


def a_gpu(number: int) -> dict[str, Value]:
    """Return an idle GPU in good health."""
    return {
        "uuid": f"GPU-{number}",
        "index": number,
        "name": "NVIDIA Stand-in",
        "minor": number,
        "bus_id": f"00000000:{number + 1:02X}:00.0",
        "power_limit_milliwatts": 700_000,
        "utilization": 0,
        "memory_utilization": 0,
        "memory_total": 1000 * MIB,
        "memory_used": 4 * MIB,
        "memory_reserved": 2 * MIB,
        "temperature": 31,
        "field_82": 42,
        "power_milliwatts": 71_500,
        "sm_clock": 345,
        "memory_clock": 2619,
        "performance_state": 0,
        "energy_millijoules": 1_234_567,
        "throttle": 1,
        "fan": 0,
        "graphics_clock": 345,
        "video_clock": 765,
        "encoder": 0,
        "decoder": 3,
        "pcie_generation": 1,
        "pcie_generation_max": 5,
        "pcie_width": 16,
        "pcie_width_max": 16,
        "pcie_sent": 2,
        "pcie_received": 3,
        "ecc": 0,
        "ecc_corrected": 1,
        "ecc_aggregate": 2,
        "ecc_aggregate_corrected": 3,
        "remapped_rows": "1 0 0 0",
        "retired_pages": 1,
        "retired_pages_single": 2,
        "retired_pages_pending": 0,
        "field_230": 0,
        "events": 11,
    }


@dataclass(kw_only=True)
class Account:
    """What the driver's accounting has of one process on one device."""

    device: int = 0
    pid: int
    is_running: bool = False
    utilization: int = 50
    memory_utilization: int = 20
    max_memory: int = 300 * MIB
    milliseconds: int = 1500
    started_at: float
    """Seconds since the epoch."""


@dataclass(kw_only=True)
class StandIn:
    """What the stand-in says; call `write` after a change."""

    library: Path
    file: Path
    gpus: list[dict[str, Value]] = field(default_factory=lambda: [a_gpu(0), a_gpu(1)])
    mig: dict[int, dict[str, Value]] = field(default_factory=dict)
    system: dict[str, Value] = field(default_factory=dict)
    processes: list[tuple[int, str, int, int]] = field(default_factory=list)
    """Device, `compute`, `graphics` or `mps`, pid, bytes (-1: not available)."""
    shares: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    """Device, pid, and percent of SM, memory, encoder and decoder."""
    xids: list[tuple[int, int]] = field(default_factory=list)
    """Device and number, in the order they happen; 0 is a memory error without a number."""
    accounts: list[Account] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """Return what a process needs to load it."""
        return {"LD_LIBRARY_PATH": str(self.library.parent), "NVML_STAND_IN": str(self.file)}

    def without_device_files(self) -> None:
        """Have no GPU whose device somebody else on this machine might hold."""
        for gpu in self.gpus:
            del gpu["minor"]

    def write(self) -> None:
        """Have it say so from the next call on."""
        temporary = self.file.with_suffix(".new")
        temporary.write_text("".join(f"{line}\n" for line in self._lines()))
        temporary.replace(self.file)

    def _lines(self) -> Iterator[str]:
        for key, value in ({"driver": "570.1", "count": len(self.gpus)} | self.system).items():
            yield f"- {key} {value}"
        for number, gpu in {**dict(enumerate(self.gpus)), **self.mig}.items():
            for key, value in gpu.items():
                yield f"{number} {key} {value}"
        for device, kind, pid, size in self.processes:
            yield f"{device} {kind} {pid} {size}"
        for device, *share in self.shares:
            yield f"{device} share {' '.join(map(str, share))}"
        for device, xid in self.xids:
            yield f"{device} xid {xid}"
        for one in self.accounts:
            yield (
                f"{one.device} account {one.pid} {one.is_running:d} {one.utilization} "
                f"{one.memory_utilization} {one.max_memory} {one.milliseconds} "
                f"{int(one.started_at * 1e6)}"
            )
