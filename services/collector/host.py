"""The host's readings, by psutil."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import psutil

from gleaner.bus.messages import Disk, HostReading

DISKS_SECONDS = 60.0
"""Disks fill slowly, and a sick one is slow to ask."""
_ALWAYS_FULL = frozenset({"squashfs", "iso9660", "udf", "erofs", "cramfs"})
"""Images that nobody writes to, like those of snap: how full they are says nothing."""


class Partition(Protocol):
    """What psutil tells of a mounted file system."""

    @property
    def device(self) -> str: ...
    @property
    def mountpoint(self) -> str: ...
    @property
    def fstype(self) -> str: ...


Totals = tuple[float, int, int]
"""When (monotonic seconds), and all bytes received and sent until then."""


class Host:
    """Reads the host; the CPU's share is that since the reading before."""

    def __init__(self) -> None:
        self._disks: tuple[Disk, ...] = ()
        self._disks_due = 0.0
        self._network: Totals | None = None
        psutil.cpu_percent()

    def read(self) -> HostReading:
        """Return the readings now."""
        now = time.monotonic()
        if now >= self._disks_due:
            # Network ones can hang whoever asks about them.
            partitions = psutil.disk_partitions(all=False)
            self._disks, self._disks_due = disks_of(partitions), now + DISKS_SECONDS
        memory = psutil.virtual_memory()
        load = os.getloadavg()
        before, self._network = self._network, _network_totals(now)
        received, sent = rates(before, self._network)
        return HostReading(
            cpu_percent=psutil.cpu_percent(),
            cpu_count=os.cpu_count(),
            load_1_minute=load[0],
            load_5_minutes=load[1],
            load_15_minutes=load[2],
            memory_total_bytes=memory.total,
            memory_used_bytes=memory.total - memory.available,
            network_received_bytes_per_second=received,
            network_sent_bytes_per_second=sent,
            uptime_seconds=time.clock_gettime(time.CLOCK_BOOTTIME),
            disks=self._disks,
        )


def rates(before: Totals | None, now: Totals | None) -> tuple[float | None, float | None]:
    """Return bytes received and sent a second between two readings; None where it is not known."""
    if before is None or now is None:
        return None, None
    seconds, received, sent = (after - earlier for earlier, after in zip(before, now, strict=True))
    # An interface that was taken away takes its count with it.
    if seconds <= 0 or received < 0 or sent < 0:
        return None, None
    return received / seconds, sent / seconds


def devices(directory: Path = Path("/sys/class/net")) -> frozenset[str]:
    """Return the interfaces that are devices.

    Loopback, bridges, bonds and tunnels are none; what they carry is counted below them.
    """
    return frozenset(one.name for one in directory.glob("*") if (one / "device").exists())


def _network_totals(now: float) -> Totals | None:
    real = devices()
    counters = [one for name, one in psutil.net_io_counters(pernic=True).items() if name in real]
    if not counters:
        return None
    return now, sum(one.bytes_recv for one in counters), sum(one.bytes_sent for one in counters)


def disks_of(partitions: Iterable[Partition]) -> tuple[Disk, ...]:
    """Return each file system once, and how full it is."""
    disks: dict[str, Disk] = {}
    for partition in partitions:
        if partition.device in disks or partition.fstype in _ALWAYS_FULL:
            continue
        if not os.path.isdir(partition.mountpoint):
            continue
        try:
            usage = psutil.disk_usage(partition.mountpoint)
        except OSError:
            continue
        disks[partition.device] = Disk(
            mount=partition.mountpoint, total_bytes=usage.total, used_bytes=usage.used
        )
    return tuple(disks.values())
