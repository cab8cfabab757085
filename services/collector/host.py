"""The host's readings, by psutil."""

from __future__ import annotations

import os
import time

import psutil

from gleaner.bus.messages import Disk, HostReading

DISKS_SECONDS = 60.0
"""Disks fill slowly, and a sick one is slow to ask."""


class Host:
    """Reads the host; the CPU's share is that since the reading before."""

    def __init__(self) -> None:
        self._disks: tuple[Disk, ...] = ()
        self._disks_due = 0.0
        psutil.cpu_percent()

    def read(self) -> HostReading:
        """Return the readings now."""
        now = time.monotonic()
        if now >= self._disks_due:
            self._disks, self._disks_due = _local_disks(), now + DISKS_SECONDS
        memory = psutil.virtual_memory()
        return HostReading(
            cpu_percent=psutil.cpu_percent(),
            cpu_count=os.cpu_count(),
            load_1_minute=os.getloadavg()[0],
            memory_total_bytes=memory.total,
            memory_used_bytes=memory.total - memory.available,
            uptime_seconds=time.clock_gettime(time.CLOCK_BOOTTIME),
            disks=self._disks,
        )


def _local_disks() -> tuple[Disk, ...]:
    """Return each local file system once; network ones can hang whoever asks about them."""
    disks: dict[str, Disk] = {}
    for partition in psutil.disk_partitions(all=False):
        if partition.device in disks or not os.path.isdir(partition.mountpoint):
            continue
        try:
            usage = psutil.disk_usage(partition.mountpoint)
        except OSError:
            continue
        disks[partition.device] = Disk(
            mount=partition.mountpoint, total_bytes=usage.total, used_bytes=usage.used
        )
    return tuple(disks.values())
