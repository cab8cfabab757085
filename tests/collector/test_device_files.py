"""GPUs known by their device files alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.collector.device_files import DeviceFilesSource

pytestmark = pytest.mark.real

INFORMATION = """Model: \t\t NVIDIA H200
IRQ:   \t\t 190
GPU UUID: \t {uuid}
Bus Location: \t {bus}
Device Minor: \t {minor}
GPU Excluded:\t No
"""


def make(directory: Path, name: str) -> None:
    os.mknod(directory / name, 0o666 | 0o020000, os.makedev(1, 7))


def tell(driver: Path, minor: int, bus: str, uuid: str) -> None:
    folder = driver / "gpus" / bus
    folder.mkdir(parents=True)
    text = INFORMATION.format(uuid=uuid, bus=bus, minor=minor)
    (folder / "information").write_text(text)


async def names(source: DeviceFilesSource) -> list[tuple[str, int, int | None]]:
    return [(gpu.gpu, gpu.index, gpu.minor) for gpu in (await source.hardware()).gpus]


async def test_only_numbered_character_devices_are_gpus(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "nvidia1"):
        make(tmp_path, name)
    (tmp_path / "nvidia7").write_text("a file")
    source = DeviceFilesSource(tmp_path, "no NVML", tmp_path / "driver")

    assert await names(source) == [("minor-0", 0, 0), ("minor-1", 1, 1)]
    assert (await source.hardware()).devices["minor-1"] == tmp_path / "nvidia1"
    assert not (await source.sweep()).gpus[0].driver_asked


async def test_the_kernel_module_names_them_and_the_bus_orders_them(tmp_path: Path) -> None:
    driver = tmp_path / "driver"
    for name in ("nvidia0", "nvidia1", "nvidia2"):
        make(tmp_path, name)
    tell(driver, 0, "0000:82:00.0", "GPU-a")
    tell(driver, 1, "0000:03:00.0", "GPU-b")
    tell(driver, 2, "0000:04:00.0", "GPU-????????-????")
    (driver / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 1 UTC 2026\n"
    )
    source = DeviceFilesSource(tmp_path, "no NVML", driver)

    assert await names(source) == [("GPU-b", 0, 1), ("0000:04:00.0", 1, 2), ("GPU-a", 2, 0)]
    hardware = await source.hardware()
    assert (hardware.gpus[0].name, hardware.driver_version) == ("NVIDIA H200", "570.86.15")


async def test_a_device_that_is_added_later_is_found_and_one_that_goes_is_lost(
    tmp_path: Path,
) -> None:
    make(tmp_path, "nvidia0")
    source = DeviceFilesSource(tmp_path, "no NVML", tmp_path / "driver")
    assert len(await names(source)) == 1

    make(tmp_path, "nvidia1")
    (tmp_path / "nvidia0").unlink()

    sweep = await source.sweep()
    assert [(gpu.gpu, gpu.lost) for gpu in sweep.gpus] == [
        ("minor-0", f"{tmp_path / 'nvidia0'} is no longer there"),
        ("minor-1", None),
    ]


async def test_a_machine_without_any_gpu_has_none(tmp_path: Path) -> None:
    source = DeviceFilesSource(tmp_path / "nowhere", "no NVML", tmp_path / "driver")

    assert await names(source) == []
    assert (await source.sweep()).gpus == ()
    assert (await source.host()).memory_total_bytes
