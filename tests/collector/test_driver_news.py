"""Processes that ended between two samples: who is recorded, and for whom."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from gleaner.bus.local import NodeBus
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.message import Writer
from gleaner.bus.messages import GpuCondition, GpuInventory, GpuReading, GpuState, Holder, Xid
from gleaner.bus.outbox import Outbox
from services.collector.driver_news import REMEMBERED, DriverNews
from services.collector.interface import DriverEvent, EndedProcess, GpuSweep, Sweep
from tests.builders import NOW

PARENT = GpuInventory(gpu="GPU-1", index=1, schedulable=False)
INSTANCE = GpuInventory(gpu="MIG-1", index=2, parent="GPU-1")


class News:
    """What becomes events of what the driver tells."""

    def __init__(self) -> None:
        self.outbox = Outbox(None)
        broker = MemoryBus(MemoryBroker())
        bus = NodeBus("n1", "boot", broker, self.outbox, frozenset({Writer.COLLECTOR}))
        self.news = DriverNews(bus)

    def sweeps(self, session: int = 1, **changes: Any) -> Sweep:
        reading = GpuReading(gpu="GPU-1", index=1)
        one = GpuSweep(**({"gpu": "GPU-1", "processes": (), "reading": reading} | changes))
        return self.news.take_in(Sweep(gpus=(one,), session=session), 0)

    def ends(self, pid: int = 41, *, after_seconds: float = 0) -> None:
        process = EndedProcess(
            pid=pid,
            started_at=NOW + timedelta(seconds=after_seconds),
            active_seconds=1.5,
            memory_used_bytes=7,
            utilization_percent=50,
            memory_utilization_percent=20,
        )
        self.sweeps(ended=(process,))

    def recorded(self, kind: str = "short_process") -> list[dict[str, Any]]:
        return [one.data for one in self.outbox.after({}, 1000, 1000) if one.kind == kind]


def a_holder(**changes: Any) -> Holder:
    values = {"pid": 41, "started_at": NOW, "user": "user1", "command": "python", "kinds": ()}
    return Holder(**(values | changes))


def a_state(*holders: Holder, state: GpuCondition = GpuCondition.BUSY) -> GpuState:
    return GpuState(
        node="n1", gpu="GPU-1", index=1, state=state, since=NOW, holders=holders, at=NOW
    )


def test_who_was_seen_and_is_in_no_sample_is_recorded_with_their_name() -> None:
    node = News()
    node.news.saw(a_holder())
    node.ends()

    (data,) = node.recorded()
    assert (data["user"], data["command"], data["pid"]) == ("user1", "python", 41)
    assert (data["active_seconds"], data["memory_used_bytes"], data["gpu"]) == (1.5, 7, "GPU-1")


def test_whom_nobody_saw_is_recorded_as_unknown() -> None:
    node = News()
    node.ends()

    (data,) = node.recorded()
    assert (data["user"], data["command"], data["run"]) == (None, None, None)


def test_who_is_in_a_sample_is_in_a_session_and_not_counted_twice() -> None:
    node = News()
    node.news.saw(a_holder())
    node.news.sampled([a_state(a_holder())])
    node.ends()

    assert node.recorded() == []


def test_a_sample_of_a_gpu_that_nobody_knows_about_is_no_session() -> None:
    node = News()
    node.news.saw(a_holder())
    node.news.sampled([None, a_state(a_holder(), state=GpuCondition.UNKNOWN)])
    node.ends()

    assert len(node.recorded()) == 1


def test_a_pid_that_was_used_again_is_somebody_else() -> None:
    node = News()
    later = a_holder(started_at=NOW + timedelta(hours=1))
    node.news.saw(later)
    node.news.sampled([a_state(later)])
    node.ends()

    (data,) = node.recorded()
    assert data["user"] is None


def test_who_is_ignored_is_not_recorded() -> None:
    node = News()
    node.news.saw(a_holder(ignored="program nvtop"))
    node.ends()

    assert node.recorded() == []


def test_our_own_short_run_is_recorded_as_ours() -> None:
    node = News()
    node.news.saw(a_holder(run="r1", entry="fold"))
    node.ends()

    (data,) = node.recorded()
    assert (data["run"], data["entry"]) == ("r1", "fold")


def test_only_so_many_are_remembered_and_the_newest_are() -> None:
    node = News()
    for pid in range(REMEMBERED + 1):
        node.news.saw(a_holder(pid=pid))
    node.ends(0)
    node.ends(REMEMBERED)

    assert [data["user"] for data in node.recorded()] == [None, "user1"]


def test_errors_are_events_and_counts_in_the_reading() -> None:
    node = News()
    events = (DriverEvent(xid=48, at=NOW), DriverEvent(xid=48, at=NOW))

    (gpu,) = node.sweeps(events=events).gpus

    words = "memory error that could not be corrected"
    expected = Xid(number=48, severity="critical", meaning=words, count=2, last_at=NOW)
    assert gpu.reading.xids == (expected,)
    (data,) = node.recorded("problem")
    assert (data["what"], data["number"], data["count"]) == ("xid", 48, 2)
    assert node.news.broken(PARENT)
    assert node.news.broken(INSTANCE) == node.news.broken(PARENT)


def test_no_errors_and_nobody_who_could_tell_are_two_things() -> None:
    deaf = GpuReading(gpu="GPU-1", index=1, problems={"xids": "unsupported"})

    assert News().sweeps().gpus[0].reading.xids == ()
    assert News().sweeps(reading=deaf).gpus[0].reading.xids is None
    assert News().sweeps(session=0).gpus[0].reading.xids is None
