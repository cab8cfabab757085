"""Choose how GPUs are asked: by NVML where it works, else by the device files alone."""

from __future__ import annotations

import time

from gleaner.settings import GpuSettings
from services.collector.device_files import DeviceFilesSource
from services.collector.interface import Source
from services.collector.nvml import OPENING, NvmlSource

OPENING_SECONDS = 10.0
"""A machine that has just booted may be slow even to say that it has no driver."""


async def open_source(settings: GpuSettings) -> Source:
    """Return the source that the settings name; `auto` tries NVML first and says why not."""
    if settings.source == "device-files":
        return DeviceFilesSource(settings.device_directory, "node.gpu.source is device-files")
    source = NvmlSource(settings.deadline_seconds, settings.device_directory)
    if settings.source == "nvml":
        return source
    until = time.monotonic() + OPENING_SECONDS
    hardware = await source.hardware()
    while hardware.problem == OPENING and time.monotonic() < until:
        hardware = await source.hardware()
    if hardware.problem is None and not hardware.gpus:
        why = "NVML finds no GPU"
    elif source.not_installed:
        why = f"NVML cannot be used ({hardware.problem})"
    else:
        # A driver that hangs or was upgraded is still the one to ask.
        return source
    await source.close()
    return DeviceFilesSource(settings.device_directory, why)
