"""Choose how GPUs are asked: by NVML where it works, else by the device files alone."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from gleaner.bus.messages import HostReading
from gleaner.settings import GpuSettings
from services.collector.device_files import DRIVER, DeviceFilesSource, signs_of_driver
from services.collector.interface import Hardware, Source, SourceName, Sweep
from services.collector.nvml.driver import OPENING, NvmlSource

logger = logging.getLogger(__name__)

OPENING_SECONDS = 10.0
"""A machine that has just booted may be slow even to say that it has no driver."""
AGAIN_SECONDS = 300.0
"""How often NVML is tried anew where there is a driver that it does not work with."""


async def open_source(settings: GpuSettings) -> Source:
    """Return the source that the settings name; `auto` tries NVML first and says why not."""
    if settings.source == "device-files":
        return DeviceFilesSource(settings.device_directory, "node.gpu.source is device-files")
    source = _nvml(settings)
    if settings.source == "nvml":
        return source
    until = time.monotonic() + OPENING_SECONDS
    hardware = await source.hardware()
    while hardware.problem == OPENING and time.monotonic() < until:
        hardware = await source.hardware()
    why = why_not(source, hardware)
    if why is None:
        # A driver that hangs or was upgraded is still the one to ask.
        return source
    await source.close()
    return UntilNvml(settings, why)


def _nvml(settings: GpuSettings) -> NvmlSource:
    return NvmlSource(
        settings.deadline_seconds, settings.device_directory, accounting=settings.accounting
    )


def why_not(source: NvmlSource, hardware: Hardware) -> str | None:
    """Return why there is nothing to ask NVML for, or None."""
    if hardware.problem is None and not hardware.gpus:
        return "NVML finds no GPU"
    if source.not_installed:
        return f"NVML cannot be used ({hardware.problem})"
    return None


class UntilNvml:
    """The device files alone, until NVML works: a driver may be loaded long after we started."""

    def __init__(self, settings: GpuSettings, why: str, driver: Path = DRIVER) -> None:
        self._settings = settings
        self._driver = driver
        self._files = DeviceFilesSource(settings.device_directory, why, driver)
        self._now: DeviceFilesSource | NvmlSource = self._files
        self._tried: NvmlSource | None = None
        self._signs = self._look()
        self._again_at = time.monotonic() + AGAIN_SECONDS

    @property
    def name(self) -> SourceName:
        """See `Source`."""
        return self._now.name

    @property
    def child_pid(self) -> int | None:
        """The child that asks NVML, if there is one."""
        source = self._tried or self._now
        return source.child_pid if isinstance(source, NvmlSource) else None

    async def hardware(self) -> Hardware:
        """See `Source`."""
        if self._now is self._files:
            await self._try()
        return await self._now.hardware()

    async def sweep(self) -> Sweep:
        """See `Source`."""
        return await self._now.sweep()

    async def host(self) -> HostReading:
        """See `Source`."""
        return await self._now.host()

    async def close(self) -> None:
        """See `Source`."""
        for source in (self._tried, self._now):
            if source is not None:
                await source.close()

    async def _try(self) -> None:
        """Take NVML if it works by now; it is tried when something speaks for a driver."""
        if self._tried is None:
            signs = self._look()
            if signs is None or (signs == self._signs and time.monotonic() < self._again_at):
                return
            self._signs, self._again_at = signs, time.monotonic() + AGAIN_SECONDS
            self._tried = _nvml(self._settings)
        source = self._tried
        hardware = await source.hardware()
        if hardware.problem is None and hardware.gpus:
            logger.info("NVML works by now; GPUs are asked by it from here on")
            self._now, self._tried = source, None
        elif why_not(source, hardware) is not None:
            self._tried = None
            await source.close()

    def _look(self) -> object:
        return signs_of_driver(self._settings.device_directory, self._driver)
