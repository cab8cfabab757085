"""What is read of the host."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from services.collector.host import Host, devices, disks_of, rates


def test_the_host_is_read_as_it_is() -> None:
    reading = Host().read()

    assert reading.cpu_count == os.cpu_count()
    assert reading.memory_total_bytes == psutil.virtual_memory().total
    assert reading.load_1_minute is not None
    assert reading.load_5_minutes is not None
    assert reading.load_15_minutes is not None
    assert reading.disks


@dataclass
class A:
    """A mounted file system."""

    device: str
    mountpoint: str
    fstype: str


def test_an_image_that_is_always_full_is_no_disk(tmp_path: Path) -> None:
    found = disks_of(
        [
            A("/dev/loop3", str(tmp_path), "squashfs"),
            A("/dev/sda1", str(tmp_path), "ext4"),
            A("/dev/sda1", "/", "ext4"),
            A("/dev/sdb1", str(tmp_path / "gone"), "ext4"),
        ]
    )

    assert [disk.mount for disk in found] == [str(tmp_path)]


def test_the_first_reading_knows_no_rate() -> None:
    reading = Host().read()

    assert reading.network_received_bytes_per_second is None
    assert reading.network_sent_bytes_per_second is None


def test_what_the_network_carries_is_told_a_second() -> None:
    assert rates((10.0, 1000, 500), (12.0, 5000, 500)) == (2000, 0)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (None, (1.0, 1, 1)),
        ((1.0, 1, 1), None),
        ((1.0, 1, 1), (1.0, 2, 2)),
        # An interface was taken away.
        ((1.0, 100, 100), (2.0, 50, 150)),
    ],
)
def test_a_rate_that_cannot_be_told_is_unknown(
    before: tuple[float, int, int] | None, now: tuple[float, int, int] | None
) -> None:
    assert rates(before, now) == (None, None)


def test_only_interfaces_that_are_devices_count(tmp_path: Path) -> None:
    (tmp_path / "eth0" / "device").mkdir(parents=True)
    (tmp_path / "lo").mkdir()
    (tmp_path / "bonding_masters").touch()

    assert devices(tmp_path) == {"eth0"}
