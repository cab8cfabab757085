"""What is said of a GPU's errors, and when a GPU counts as broken."""

from __future__ import annotations

from typing import Any

import pytest

from gleaner.bus.messages import GpuReading
from services.collector.faults import Faults, Problem, broken, take_in
from services.collector.interface import DriverEvent, GpuSweep
from services.collector.xid import meaning
from tests.builders import NOW


class Gpu:
    """One GPU and what is remembered of it."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.reading = GpuReading(gpu="GPU-3", index=3)

    def reports(
        self, *xids: int | None, at: float = 0, session: int = 1, **reading: Any
    ) -> list[Problem]:
        self.reading = GpuReading(gpu="GPU-3", index=3, **reading)
        events = tuple(DriverEvent(xid=xid, at=NOW) for xid in xids)
        sweep = GpuSweep(gpu="GPU-3", processes=(), reading=self.reading, events=events)
        self.faults, problems = take_in(sweep, self.faults, session, at)
        return problems

    def broken(self, at: float = 0) -> tuple[str, ...]:
        return broken(self.reading, self.faults, at)


@pytest.mark.parametrize(
    ("xid", "severity"),
    [(79, "critical"), (31, "application"), (63, "information"), (7, "unknown")],
)
def test_an_xid_is_as_grave_as_it_is(xid: int, severity: str) -> None:
    assert meaning(xid)[0] == severity


def test_an_error_is_told_with_its_meaning() -> None:
    assert Gpu().reports(31) == [
        {
            "what": "xid",
            "text": "GPU 3: XID 31: a program used memory that is not its own",
            "gpu": "GPU-3",
            "index": 3,
            "count": 1,
            "number": 31,
            "severity": "application",
        }
    ]


def test_an_error_in_a_loop_is_told_once_a_minute_and_nothing_is_lost() -> None:
    gpu = Gpu()

    assert [one["count"] for one in gpu.reports(31, 31)] == [2]
    assert gpu.reports(31, at=1) == []
    assert gpu.reports(31, at=59) == []
    assert [one["count"] for one in gpu.reports(at=60)] == [2]
    assert gpu.reports(at=200) == []
    assert gpu.faults.xids[31].count == 4


def test_a_programs_error_does_not_break_a_gpu() -> None:
    gpu = Gpu()
    gpu.reports(13, 31, 43, 45, 94, 63, 999)

    assert gpu.broken() == ()


def test_a_critical_error_breaks_it_until_the_driver_is_opened_anew() -> None:
    gpu = Gpu()
    gpu.reports(48)

    (why,) = gpu.broken(at=10_000)
    assert why.startswith("XID 48 at 12:00:00 UTC: memory error that could not be corrected")
    gpu.reports(session=2)
    assert gpu.broken() == ()
    assert gpu.faults.xids[48].count == 1


def test_a_driver_that_asks_for_nothing_is_believed_after_a_while() -> None:
    gpu = Gpu()
    gpu.reports(74, recovery_action="none")

    assert gpu.broken(at=10)
    assert gpu.broken(at=100) == ()


def test_what_the_driver_asks_for_holds_as_long_as_it_asks() -> None:
    gpu = Gpu()
    gpu.reports(recovery_action="gpu_reset")
    assert gpu.broken() == ("the driver asks for a reset of the GPU",)

    gpu.reports(recovery_action="none")
    assert gpu.broken() == ()


def test_memory_without_a_spare_row_breaks_it() -> None:
    gpu = Gpu()
    gpu.reports(remapping_failed=True)

    assert "exchange the GPU" in gpu.broken()[0]


def test_a_counter_that_goes_on_is_told_and_one_that_begins_is_not() -> None:
    gpu = Gpu()

    assert gpu.reports(ecc_uncorrected_errors=5) == []
    (problem,) = gpu.reports(ecc_uncorrected_errors=7)
    assert problem["text"] == "GPU 3: memory error that could not be corrected (2 times)"
    assert gpu.reports() == []
    assert gpu.reports(ecc_uncorrected_errors=7) == []
    assert gpu.reports(ecc_uncorrected_errors=0) == []
    # The driver's own report says how grave it is, where there is one.
    assert gpu.broken() == ()


def test_the_counter_alone_breaks_a_gpu_that_reports_nothing_by_itself() -> None:
    gpu, deaf = Gpu(), {"xids": "unsupported"}
    gpu.reports(ecc_uncorrected_errors=0, problems=deaf)
    gpu.reports(ecc_uncorrected_errors=1, problems=deaf)

    assert gpu.broken() == ("memory error that could not be corrected; the GPU needs a reset",)
