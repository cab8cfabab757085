"""What the driver tells rarely, without being asked, or of processes: over the stand-in library."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gleaner.bus.messages import ProcessReading
from services.collector.interface import EndedProcess, Sweep
from services.collector.nvml.driver import NvmlSource
from services.collector.simulated.replay import CaptureSource
from tests.collector.conftest import swept
from tests.nvml_stand_in import MIB, Account, StandIn

pytestmark = pytest.mark.real

DEAR = ("retired_pages", "pcie_sent_bytes_per_second", "pcie_received_bytes_per_second")


@pytest.fixture
async def accounting(nvml: StandIn) -> AsyncIterator[NvmlSource]:
    source = NvmlSource(0.5, Path("/dev"), accounting=True)
    yield source
    await source.close()


async def test_one_sweep_asks_one_dear_question_at_most(source: NvmlSource) -> None:
    sweep = await swept(source)

    readings = [gpu.reading for gpu in sweep.gpus]
    known = [getattr(reading, name) is not None for reading in readings for name in DEAR]
    assert sum(known) == 1


async def test_what_is_asked_rarely_says_how_old_it_is(source: NvmlSource) -> None:
    await swept(source)
    deadline = time.monotonic() + 10
    while not (ages := (await source.sweep()).gpus[0].reading.ages_seconds):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)

    assert ages["fan_percent"] == ages["ecc_uncorrected_errors"] >= 1
    assert "temperature_celsius" not in ages


async def test_an_error_is_heard_once_and_none_of_before(source: NvmlSource, nvml: StandIn) -> None:
    nvml.xids = [(0, 13)]
    nvml.write()
    assert (await swept(source)).gpus[0].events == ()
    nvml.xids += [(0, 31), (1, 79), (0, 0)]
    nvml.write()

    first, second = (await source.sweep()).gpus
    assert [event.xid for event in first.events] == [31, None]
    assert [event.xid for event in second.events] == [79]
    assert all(gpu.events == () for gpu in (await source.sweep()).gpus)


async def test_an_error_in_a_capture_happens_once_however_long_it_is_played(
    tmp_path: Path,
) -> None:
    gpu = {
        "gpu": "GPU-0", "index": 0, "values": {}, "problems": {}, "processes": [], "lost": None,
        "events": [{"xid": 48, "at": 1.0}], "ended": [],
    }  # fmt: skip
    hardware = {"driver_version": "570.1", "gpus": [{"gpu": "GPU-0", "index": 0}], "missing": {}}
    path = tmp_path / "xid.capture"
    answers = (hardware, {"sweep": [gpu]})
    path.write_text("".join(json.dumps({"seconds": 0, "answer": one}) + "\n" for one in answers))
    played = CaptureSource(path, tmp_path)

    heard = [event.xid for _ in range(3) for event in (await played.sweep()).gpus[0].events]

    assert heard == [48]


async def test_with_an_error_the_gpus_health_is_asked_anew(
    source: NvmlSource, nvml: StandIn
) -> None:
    assert (await swept(source)).gpus[0].reading.ecc_uncorrected_errors == 0
    nvml.gpus[0] |= {"ecc": 1, "field_230": 1}
    nvml.gpus[1]["ecc"] = 1
    nvml.xids = [(0, 48)]
    nvml.write()

    first, second = (await source.sweep()).gpus

    assert first.reading.ecc_uncorrected_errors == 1
    assert first.reading.recovery_action == "gpu_reset"
    assert second.reading.ecc_uncorrected_errors == 0


async def test_a_gpu_that_reports_nothing_by_itself_says_so(
    source: NvmlSource, nvml: StandIn
) -> None:
    del nvml.gpus[0]["events"]
    nvml.gpus[1]["nvmlDeviceRegisterEvents"] = "fail 4"
    nvml.write()

    first, second = (await swept(source)).gpus

    assert first.reading.problems["xids"] == "unsupported"
    assert second.reading.problems["xids"] == "no permission"


async def test_each_process_has_its_share(source: NvmlSource, nvml: StandIn) -> None:
    nvml.processes = [(0, "compute", pid, 7) for pid in (41, 42, 43)]
    # The third is what a driver says when there are zombies.
    nvml.shares = [(0, 41, 60, 20, 1, 2), (0, 43, 4_000_000, 0, 0, 0)]
    nvml.write()

    reading = (await swept(source)).gpus[0].reading

    def share(pid: int, *percent: float) -> ProcessReading:
        names = ("utilization", "memory_utilization", "encoder", "decoder")
        values = {f"{name}_percent": one for name, one in zip(names, percent, strict=True)}
        return ProcessReading(pid=pid, memory_used_bytes=7, **values)

    assert reading.processes == (
        share(41, 60, 20, 1, 2),
        share(42, 0, 0, 0, 0),
        share(43, 0, 0, 0, 0),
    )


async def test_a_newcomer_has_no_share_before_it_was_asked_for(
    source: NvmlSource, nvml: StandIn
) -> None:
    nvml.processes = [(0, "compute", 41, 7)]
    nvml.write()
    await swept(source)
    nvml.processes.append((0, "compute", 42, 7))
    nvml.write()

    processes = (await source.sweep()).gpus[0].reading.processes

    assert processes
    assert [one.utilization_percent for one in processes] == [0, None]


async def test_shares_that_the_driver_does_not_tell_are_unknown(
    source: NvmlSource, nvml: StandIn
) -> None:
    nvml.processes = [(0, "compute", 41, 7)]
    nvml.gpus[0]["nvmlDeviceGetProcessUtilization"] = "fail 3"
    nvml.write()

    reading = (await swept(source)).gpus[0].reading

    assert reading.processes == (ProcessReading(pid=41, memory_used_bytes=7),)
    assert reading.problems["process_utilization"] == "unsupported"


async def test_a_mig_device_has_readings_of_its_own(source: NvmlSource, nvml: StandIn) -> None:
    nvml.gpus[0] |= {"mig": 1, "mig_devices": 7, "nvmlDeviceGetPowerUsage": "fail 2"}
    nvml.mig = {
        100: {
            "uuid": "MIG-a", "name": "NVIDIA Stand-in MIG 1g.10gb", "memory_total": 100 * MIB,
            "memory_used": 30 * MIB, "memory_reserved": 0, "nvmlDeviceGetPowerUsage": "fail 2",
        }
    }  # fmt: skip
    nvml.processes = [(100, "compute", 41, 30 * MIB)]
    nvml.write()

    parent, _, instance = (await swept(source)).gpus

    assert instance.reading.memory_used_bytes == 30 * MIB
    assert [process.pid for process in instance.reading.processes or ()] == [41]
    assert parent.reading.memory_used_bytes == 4 * MIB
    unsupported = {name for name, why in instance.reading.problems.items() if why == "unsupported"}
    assert unsupported == instance.reading.problems.keys()
    assert {"utilization_percent", "power_watts", "xids"} <= unsupported
    assert parent.reading.problems["power_watts"] == "Invalid Argument"


async def ended(source: NvmlSource) -> tuple[EndedProcess, ...]:
    """Return who has ended on the first GPU, as soon as the accounting is asked again."""
    deadline = time.monotonic() + 20
    while not (gone := (await source.sweep()).gpus[0].ended):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    return gone


async def test_who_has_ended_is_told_once_by_the_drivers_accounting(
    accounting: NvmlSource, nvml: StandIn
) -> None:
    now = time.time()
    nvml.accounts = [
        Account(pid=40, started_at=now - 100),
        Account(pid=41, started_at=now - 50, is_running=True),
    ]
    nvml.processes = [(0, "compute", 41, 7)]
    nvml.write()
    assert all(gpu.ended == () for gpu in (await swept(accounting)).gpus)
    nvml.accounts[1].is_running = False
    nvml.processes = []
    nvml.accounts.append(Account(pid=42, started_at=now))
    # The binding raises TypeError for this one: better it is missing than everything else.
    nvml.accounts.append(Account(pid=44, started_at=now, max_memory=2**64 - 1))
    nvml.write()

    first, second = await ended(accounting)

    assert (first.pid, first.active_seconds, first.utilization_percent) == (41, 1.5, 50)
    assert first.memory_used_bytes == 300 * MIB
    assert abs(first.started_at.timestamp() - (now - 50)) < 0.001
    assert second.pid == 42
    nvml.accounts.append(Account(pid=43, started_at=now))
    nvml.write()
    assert [one.pid for one in await ended(accounting)] == [43]


async def test_accounting_that_is_not_allowed_is_named(
    accounting: NvmlSource, nvml: StandIn
) -> None:
    nvml.gpus[0]["nvmlDeviceSetAccountingMode"] = "fail 4"
    nvml.write()

    sweep: Sweep = await swept(accounting)

    assert sweep.gpus[0].reading.problems == {"accounting": "no permission"}
    assert sweep.gpus[1].reading.problems == {}


async def test_nobody_switches_accounting_on_unasked(source: NvmlSource, nvml: StandIn) -> None:
    nvml.gpus[0]["nvmlDeviceSetAccountingMode"] = "hang"
    nvml.gpus[0]["nvmlDeviceGetAccountingMode"] = "hang"
    nvml.write()

    assert (await swept(source)).problem is None
