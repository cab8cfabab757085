"""What history keeps of the host: means of what was read, and how it was at the end."""

from __future__ import annotations

from typing import Any

from gleaner.bus.messages import Disk, HostReading
from services.collector.host_samples import HostSamples, fullest_percent
from tests.builders import NOW
from tests.collector.test_gpus import Node


def a_reading(cpu: float | None, received: float | None, **more: Any) -> HostReading:
    return HostReading(cpu_percent=cpu, network_received_bytes_per_second=received, **more)


def disks(*used: int) -> tuple[Disk, ...]:
    return tuple(
        Disk(mount=f"/{number}", total_bytes=200, used_bytes=one) for number, one in enumerate(used)
    )


def test_a_sample_is_the_mean_of_its_readings_by_their_time() -> None:
    host = HostSamples()
    host.add(a_reading(7, None, load_1_minute=9, memory_used_bytes=9, disks=disks(100)), 0)
    host.take(NOW, 10)

    host.add(a_reading(100, 4000), 1)
    host.add(a_reading(20, 1000, load_1_minute=0.504, memory_used_bytes=5, disks=disks(1, 123)), 10)
    sample = host.take(NOW, 10)

    assert sample is not None
    # One second of 100 %, and nine of 20 %.
    assert (sample.cpu_percent, sample.network_received_bytes_per_second) == (28.0, 1300)
    assert (sample.load_1_minute, sample.memory_used_bytes) == (0.5, 5)
    assert (sample.disk_used_percent, sample.network_sent_bytes_per_second) == (61.5, None)
    assert (sample.at, sample.seconds) == (NOW, 10)


def test_what_one_reading_does_not_know_is_that_of_the_others() -> None:
    host = HostSamples()
    for second, cpu in enumerate((None, 30, None)):
        host.add(a_reading(cpu, None), second)

    sample = host.take(NOW, 10)

    assert sample is not None
    assert sample.cpu_percent == 30


def test_where_nothing_is_known_there_is_no_sample() -> None:
    host = HostSamples()
    assert host.take(NOW, 10) is None

    host.add(HostReading(cpu_count=4), 1)
    assert host.take(NOW, 10) is None


def test_a_file_system_without_size_is_not_full() -> None:
    none = Disk(mount="/x", total_bytes=0, used_bytes=0)

    assert fullest_percent(HostReading(disks=(none,))) is None
    assert fullest_percent(HostReading(disks=(none, *disks(50)))) == 25


async def test_each_sample_of_the_gpus_comes_with_one_of_the_host() -> None:
    node = Node(sample_seconds=1e-9)
    for _ in range(3):
        await node.watch.check()
    node.watch.close()
    await node.world.source.close()

    data: Any = node.events("samples")[0].data
    assert [one["seconds"] for one in data["host"]] == [1e-9] * 3
    assert data["host"][0]["cpu_percent"] == 3.0
    assert data["host"][0]["disk_used_percent"] == 30.0
    assert len(data["samples"]) == 6
