"""GPUs without NVML: the device files alone say which there are; nobody says what they do.

An id comes from /proc/driver/nvidia/gpus where that is there, else it is `minor-N`; once given, it
is kept. A device's minor number is not NVML's index, so the index is the order on the PCI bus.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from gleaner.bus.messages import GpuInventory, GpuReading, HostReading
from services.collector.host import Host
from services.collector.interface import GpuSweep, Hardware, SourceName, Sweep

_DEVICE = re.compile(r"nvidia(\d+)")
DRIVER = Path("/proc/driver/nvidia")


@dataclass(frozen=True, kw_only=True)
class Information:
    """What /proc/driver/nvidia/gpus/*/information says."""

    minor: int
    model: str | None
    gpu: str
    bus: str | None


class DeviceFilesSource:
    """See `Source`."""

    name: SourceName = "device-files"

    def __init__(self, device_directory: Path, why: str, driver: Path = DRIVER) -> None:
        self._directory = device_directory
        self._driver = driver
        self._host = Host()
        self._known: dict[int, Information] = {}
        self._present: frozenset[int] = frozenset()
        self._limitation = (
            f"{why}: GPUs are known by their device files only, without readings, "
            "and only processes that hold the device open are seen"
        )

    async def hardware(self) -> Hardware:
        """See `Source`; device files that were added since are found."""
        self._look()
        gpus = tuple(
            GpuInventory(
                gpu=one.gpu,
                index=index,
                minor=one.minor,
                name=one.model,
                pci_bus_id=one.bus,
            )
            for index, one in enumerate(self._in_order())
        )
        return Hardware(
            gpus=gpus,
            driver_version=_driver_version(self._driver),
            problem=None,
            limitations=(self._limitation,),
            devices={one.gpu: self._path(one.minor) for one in self._known.values()},
        )

    async def sweep(self) -> Sweep:
        """See `Source`; a device file that went away is a lost GPU."""
        self._look()
        return Sweep(
            gpus=tuple(
                GpuSweep(
                    gpu=one.gpu,
                    processes=(),
                    reading=GpuReading(gpu=one.gpu, index=index, problems={"all": "no NVML"}),
                    lost=None
                    if one.minor in self._present
                    else f"{self._path(one.minor)} is no longer there",
                    driver_asked=False,
                )
                for index, one in enumerate(self._in_order())
            )
        )

    async def host(self) -> HostReading:
        """See `Source`."""
        return self._host.read()

    async def close(self) -> None:
        """See `Source`."""

    def _path(self, minor: int) -> Path:
        return self._directory / f"nvidia{minor}"

    def _in_order(self) -> list[Information]:
        return sorted(self._known.values(), key=lambda one: (one.bus or "", one.minor))

    def _look(self) -> None:
        self._present = _device_minors(self._directory)
        new = self._present - self._known.keys()
        if new:
            told = _information(self._driver)
            for minor in new:
                unknown = Information(minor=minor, model=None, gpu=f"minor-{minor}", bus=None)
                self._known[minor] = told.get(minor, unknown)


def signs_of_driver(directory: Path, driver: Path = DRIVER) -> object:
    """Return what speaks for a driver, to compare with what is there later; None for nothing."""
    # /dev/dxg is WSL's way to a GPU.
    signs = (_driver_version(driver), _device_minors(directory), (directory / "dxg").exists())
    return signs if any(signs) else None


def _device_minors(directory: Path) -> frozenset[int]:
    """Return the numbers of `nvidiaN` that are character devices."""
    found = set()
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            name = _DEVICE.fullmatch(entry.name)
            with contextlib.suppress(OSError):
                if name and stat.S_ISCHR(entry.stat().st_mode):
                    found.add(int(name[1]))
    return frozenset(found)


def _information(driver: Path) -> dict[int, Information]:
    """Return what the kernel module says of each GPU, by device minor."""
    found = {}
    for path in sorted(driver.glob("gpus/*/information")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            lines = (line.partition(":") for line in path.read_text().splitlines())
            fields = {key.strip(): value.strip() for key, _, value in lines}
            uuid, bus = fields.get("GPU UUID", ""), fields.get("Bus Location")
            minor = int(fields["Device Minor"])
            # The module prints question marks until the GPU was first used.
            gpu = uuid if uuid and "?" not in uuid else bus or f"minor-{minor}"
            found[minor] = Information(minor=minor, model=fields.get("Model"), gpu=gpu, bus=bus)
    return found


def _driver_version(driver: Path) -> str | None:
    with contextlib.suppress(OSError):
        version = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", (driver / "version").read_text())
        return version[1] if version else None
    return None
