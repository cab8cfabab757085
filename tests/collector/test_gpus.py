"""The watch over GPUs on a simulated node: what it says when, and why."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from gleaner.bus.interface import Delivery
from gleaner.bus.local import NodeBus
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.message import Message, Writer
from gleaner.bus.messages import (
    Beat,
    Event,
    GpuState,
    Inventory,
    Run,
    RunState,
    Telemetry,
)
from gleaner.bus.outbox import Outbox
from gleaner.settings import GpuSettings, NodeSettings, SimulatedSettings
from services.collector.clock import Clocks, read_clocks
from services.collector.gpus import GpuWatch
from services.collector.simulated.node import Simulation
from services.collector.simulated.world import MEMORY_BYTES
from tests.builders import NOW

GPU0, GPU1 = "GPU-simulated-n1-0", "GPU-simulated-n1-1"

M = TypeVar("M", bound=Message)


class Node:
    """A simulated node, its watch and everything that was said."""

    def __init__(self, clocks: Callable[[], Clocks] = read_clocks, **gpu: Any) -> None:
        settings = NodeSettings(
            id="n1", gpu=GpuSettings(**gpu), simulated=SimulatedSettings(gpus=2)
        )
        self.outbox = Outbox(None)
        self.bus = NodeBus(
            "n1", "boot", MemoryBus(MemoryBroker()), self.outbox, frozenset({Writer.COLLECTOR})
        )
        self.world = Simulation(settings, quiet=True)
        self.said: list[Message] = []
        for kind in (Beat, GpuState, Inventory, Telemetry):
            self.bus.subscribe(kind, self._hear)
        self.watch = GpuWatch(
            self.bus,
            settings,
            self.world.source,
            self.world.processes,
            self.world.notices,
            clocks=clocks,
        )

    def _hear(self, delivery: Delivery) -> None:
        if delivery.message is not None:
            self.said.append(delivery.message)

    def hear_run(self, **changes: Any) -> Run:
        values: dict[str, Any] = {
            "node": "n1", "run": "r1", "entry": "fold", "digest": "d", "gpus": (GPU0,),
            "state": RunState.RUNNING, "reason": "", "term": 1, "at": NOW, "pid": 900,
            "supervisor_pid": 800, "supervisor_started_ticks": 800,
        }  # fmt: skip
        run = Run(**(values | changes))
        self.bus.publish(run)
        return run

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.said if isinstance(message, kind)]

    def states(self, gpu: str = GPU0) -> list[str]:
        return [state.state.value for state in self.of(GpuState) if state.gpu == gpu]

    def last(self, gpu: str = GPU0) -> GpuState:
        return next(state for state in reversed(self.of(GpuState)) if state.gpu == gpu)

    def events(self, kind: str) -> list[Event]:
        return [event for event in self.outbox.after({}, 1000, 1000) if event.kind == kind]


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    await node.watch.check()
    yield node
    node.watch.close()
    await node.world.source.close()


async def test_the_first_check_says_everything_and_then_beats(node: Node) -> None:
    kinds = [type(message).__name__ for message in node.said]

    assert kinds == ["Inventory", "GpuState", "GpuState", "Telemetry", "Beat"]
    assert node.of(Inventory)[0].source == "simulated"
    assert node.states(GPU0) == node.states(GPU1) == ["idle"]
    assert len(node.events("node_started")) == 1


async def test_a_check_that_finds_nothing_new_says_only_that_it_was_done(node: Node) -> None:
    node.said.clear()

    for _ in range(3):
        await node.watch.check()

    assert [type(message) for message in node.said] == [Beat, Beat, Beat]
    assert [beat.sequence for beat in node.of(Beat)] == [2, 3, 4]


async def test_a_stranger_on_one_gpu_leaves_the_other_idle(node: Node) -> None:
    node.world.process_opens(0, user="user1")
    await node.watch.check()

    assert node.last(GPU0).state == "busy"
    assert node.last(GPU1).state == "idle"


async def test_an_open_is_said_in_the_same_call(node: Node) -> None:
    pid = node.world.process_opens(0, user="user1")

    state = node.last(GPU0)
    assert (state.state, state.noticed_by) == ("busy", "script")
    assert state.noticed_ns
    assert state.reasons == (f"user1 has the device open (pid {pid}, python train.py)",)
    assert state.holders[0].user == "user1"


async def test_a_stranger_that_computes_nothing_makes_it_busy(node: Node) -> None:
    node.world.process_opens(0, user="user1", utilization_percent=0)
    await node.watch.check()

    assert node.last(GPU0).state == "busy"


async def test_it_is_idle_again_with_the_check_after_the_stranger_left(node: Node) -> None:
    pid = node.world.process_opens(0, user="user1")
    node.world.process_leaves(pid)

    await node.watch.check()

    assert node.states() == ["idle", "busy", "idle"]
    assert node.last().noticed_ns is None


@pytest.mark.parametrize(
    ("program", "state"),
    [
        ("nvidia-smi", "idle"),
        ("nvidia-persistenced", "idle"),
        ("nv-fabricmanager", "idle"),
        ("n", "busy"),
        ("smi", "busy"),
    ],
)
async def test_ignored_programs_leave_it_idle(node: Node, program: str, state: str) -> None:
    node.world.process_opens(0, user="user1", command=program)
    await node.watch.check()

    assert node.last().state == state
    assert node.last().holders[0].command == program


async def test_our_run_is_ours_and_a_stranger_beside_it_makes_it_busy(node: Node) -> None:
    node.world.attach(node.bus)
    node.hear_run()
    await node.watch.check()
    assert (node.last().state, node.last().reasons) == ("ours", ("run r1",))

    node.world.process_opens(0, user="user1")

    assert node.last().state == "busy"
    assert [holder.run for holder in node.last().holders] == ["r1", None]
    assert node.states(GPU1) == ["idle"]


async def test_a_run_that_is_being_cleared_asks_for_a_check_at_once(node: Node) -> None:
    node.hear_run()
    node.hear_run(state=RunState.CLEARING)

    await node.watch.wait(0)

    assert node.watch._due.is_urgent


async def test_memory_that_is_not_back_after_a_run_makes_it_dirty_until_it_is(node: Node) -> None:
    node.world.attach(node.bus)
    node.hear_run()
    await node.watch.check()
    node.hear_run(state=RunState.CLEARING)
    node.world.leave_memory(0, MEMORY_BYTES // 4)
    await node.watch.check()
    node.world.leave_memory(0, 0)
    await node.watch.check()

    assert node.states() == ["idle", "ours", "dirty", "idle"]


async def test_a_driver_that_does_not_answer_makes_every_gpu_unknown(node: Node) -> None:
    node.world.driver_problem("no answer within 3 s")
    await node.watch.check()
    node.world.driver_problem(None)
    await node.watch.check()

    assert node.states(GPU0) == node.states(GPU1) == ["idle", "unknown", "idle"]
    assert node.of(GpuState)[2].reasons == ("no answer within 3 s",)
    assert node.of(Inventory)[1].driver_problem == "no answer within 3 s"
    assert [event.data["text"] for event in node.events("problem")] == [
        "no answer within 3 s",
        "the driver answers again",
    ]
    assert len(node.of(Beat)) == 3


async def test_a_person_is_said_even_while_the_driver_does_not_answer(node: Node) -> None:
    node.world.driver_problem("no answer within 3 s")
    await node.watch.check()

    node.world.process_opens(0, user="user1")

    assert node.last().state == "busy"


async def test_who_is_there_is_said_once_while_the_driver_does_not_answer(node: Node) -> None:
    node.world.driver_problem("no answer within 3 s")
    await node.watch.check()
    pid = node.world.process_opens(0, user="user1")
    await node.watch.check()
    device = (await node.world.source.hardware()).devices[GPU0]

    node.world.notices.tell(device, pid)
    await node.watch.check()

    assert node.states() == ["idle", "unknown", "busy", "unknown"]
    assert [holder.pid for holder in node.last().holders] == [pid]


async def test_a_lost_gpu_does_not_hurt_the_other(node: Node) -> None:
    node.world.lose(0)
    await node.watch.check()

    assert (node.last(GPU0).state, node.last(GPU0).reasons) == ("lost", ("GPU is lost",))
    assert node.last(GPU1).state == "idle"


async def test_each_change_is_an_event_with_what_was_before(node: Node) -> None:
    node.world.process_opens(0, user="user1")
    await node.watch.check()

    changes = [(event.data["gpu"], event.data["before"], event.data["state"])
               for event in node.events("gpu")]  # fmt: skip
    assert changes == [(GPU0, None, "idle"), (GPU1, None, "idle"), (GPU0, "idle", "busy")]
    assert "node" not in node.events("gpu")[0].data


async def test_samples_of_an_unfinished_minute_are_kept_on_the_way_out() -> None:
    node = Node(sample_seconds=1e-9)
    for _ in range(3):
        await node.watch.check()
    node.watch.close()
    await node.world.source.close()

    samples = node.events("samples")[0].data["samples"]
    assert isinstance(samples, list)
    assert [(one["gpu"], one["state"]) for one in samples[:2]] == [(GPU0, "idle"), (GPU1, "idle")]
    assert len(samples) == 6


async def test_who_has_just_started_tells_nothing_of_the_time_before() -> None:
    """A sample stands for the time that ends at it; a restart would count a part of it twice."""
    node = Node(sample_seconds=3600)
    await node.watch.check()
    node.watch.close()
    await node.world.source.close()

    assert node.events("samples") == []


async def test_telemetry_says_what_memory_nobody_accounts_for(node: Node) -> None:
    node.said.clear()
    node.world.leave_memory(0, 5)
    node.watch._reports._telemetry_at = 0

    await node.watch.check()

    readings = node.of(Telemetry)[0].gpus
    assert [reading.unattributed_memory_bytes for reading in readings] == [5, 0]
    assert node.of(Telemetry)[0].host.cpu_count


async def test_a_critical_error_takes_the_gpu_from_us_and_is_an_event(node: Node) -> None:
    node.world.attach(node.bus)
    node.hear_run()
    await node.watch.check()
    assert node.last().state == "ours"
    node.world.report(0, 48)
    await node.watch.check()

    assert node.last().state == "lost"
    assert node.last().reasons[0].startswith("XID 48 at ")
    (event,) = node.events("problem")
    assert (event.data["what"], event.data["number"], event.data["gpu"]) == ("xid", 48, GPU0)
    # Its readings come with the state that they explain.
    (xid,) = node.of(Telemetry)[-1].gpus[0].xids or ()
    assert (xid.number, xid.severity, xid.count) == (48, "critical", 1)
    assert node.last(GPU1).state == "idle"


async def test_a_person_on_a_broken_gpu_is_still_said_to_be_there(node: Node) -> None:
    node.world.process_opens(0, user="user1")
    node.world.report(0, 119)
    await node.watch.check()

    state = node.last()
    assert state.state == "busy"
    assert [reason.split(" ")[0] for reason in state.reasons] == ["user1", "XID"]


async def test_a_node_that_cannot_see_others_promises_no_more_than_the_next_check() -> None:
    node = Node()
    node.world.processes.sees_others = False

    await node.watch.check()

    (inventory,) = node.of(Inventory)
    assert inventory.notices_opens_by == "check"
    assert any("without root" in text for text in inventory.limitations)


async def test_where_opens_do_not_count_a_notice_asks_for_a_check() -> None:
    node = Node(busy_when=("compute_process",), check_seconds=4, deadline_seconds=0.5)
    await node.watch.check()

    node.world.process_opens(0, user="user1", kinds=frozenset())
    assert node.states() == ["idle"]
    assert node.watch._due.is_wanted

    await node.watch.check()
    assert node.states()[-1] == "idle"
    assert node.last().holders[0].ignored == "device_open is not in busy_when"
    node.watch.close()
    await node.world.source.close()


async def test_a_clock_that_is_set_lets_idle_times_begin_anew() -> None:
    wall, up = NOW, 1000.0
    node = Node(lambda: Clocks(wall=wall, steady=up))
    await node.watch.check()
    wall, up = wall + timedelta(seconds=10), up + 10
    await node.watch.check()
    wall, up = wall + timedelta(seconds=3601), up + 1
    await node.watch.check()

    assert [beat.started_at for beat in node.of(Beat)] == [NOW, NOW, wall]
