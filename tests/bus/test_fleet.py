"""What a reader may take for current, from deliveries alone."""

from __future__ import annotations

from datetime import timedelta

from gleaner.bus.interface import Delivery
from gleaner.bus.message import Message
from gleaner.bus.messages import (
    Availability,
    Beat,
    Blockers,
    GpuCondition,
    GpuReading,
    GpuState,
    HostReading,
    SchedulerBeat,
    Telemetry,
)
from gleaner.fleet import EVERYTHING, Fleet, Presence
from tests.builders import NOW


def at(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def delivery(message: Message, *, retained: bool = False) -> Delivery:
    return Delivery(
        message_type=type(message), levels=message.levels(), message=message, retained=retained
    )


def cleared(message: Message) -> Delivery:
    return Delivery(
        message_type=type(message), levels=message.levels(), message=None, retained=False
    )


def a_state(state: GpuCondition = GpuCondition.IDLE, age: float = 0) -> GpuState:
    since = NOW - at(age)
    return GpuState(node="n1", gpu="GPU-1", index=0, state=state, since=since, at=since)


def a_beat(behind: float = 0) -> Beat:
    return Beat(node="n1", sequence=1, check_seconds=0.01, at=NOW - at(behind))


def connection(state: str, name: str, service: str = "node") -> Availability:
    return Availability.model_validate(
        {
            "service": service,
            "instance": "n1",
            "state": state,
            "connection": name,
            "version": "1",
            "at": None,
        }
    )


def telemetry(age: float) -> Telemetry:
    return Telemetry(
        node="n1",
        gpus=(GpuReading(gpu="GPU-1", index=0, temperature_celsius=40),),
        host=HostReading(),
        interval_seconds=10,
        at=NOW - at(age),
    )


def fleet_with(*messages: Message, retained: bool = False) -> Fleet:
    fleet = Fleet()
    for message in messages:
        fleet.take(delivery(message, retained=retained), NOW)
    return fleet


def test_a_retained_fact_alone_is_shown_but_is_not_current() -> None:
    view = fleet_with(a_state(), retained=True).nodes["n1"]

    assert view.presence(NOW) is Presence.UNHEARD
    assert view.states["GPU-1"].state is GpuCondition.IDLE
    assert view.gpus(NOW)[0].condition is GpuCondition.UNKNOWN


def test_a_beat_makes_facts_current_for_ten_seconds() -> None:
    view = fleet_with(a_state(), a_beat()).nodes["n1"]

    assert view.gpus(NOW + at(10))[0].condition is GpuCondition.IDLE
    assert view.presence(NOW + at(10.1)) is Presence.STALE
    assert view.gpus(NOW + at(10.1))[0].condition is GpuCondition.UNKNOWN


def test_a_node_whose_connection_ended_is_offline_at_once_and_online_with_the_next_beat() -> None:
    fleet = fleet_with(connection("online", "a"), a_beat(), a_state())

    assert fleet.take(delivery(connection("offline", "a")), NOW + at(1)) == {"n1"}
    assert fleet.nodes["n1"].presence(NOW + at(1)) is Presence.OFFLINE
    assert fleet.take(delivery(a_beat()), NOW + at(2)) == {"n1"}
    assert fleet.nodes["n1"].presence(NOW + at(2)) is Presence.ONLINE


def test_the_late_will_of_an_older_connection_means_nothing() -> None:
    fleet = fleet_with(connection("online", "b"), a_beat())

    assert fleet.take(delivery(connection("offline", "a")), NOW + at(1)) == set()
    assert fleet.nodes["n1"].presence(NOW + at(1)) is Presence.ONLINE


def test_a_runner_that_left_does_not_make_its_collector_offline() -> None:
    fleet = fleet_with(connection("online", "a", "collector"), a_beat())

    fleet.take(delivery(connection("offline", "b", "runner")), NOW + at(1))

    assert fleet.nodes["n1"].presence(NOW + at(1)) is Presence.ONLINE
    assert fleet.nodes["n1"].connections["runner"].state == "offline"


def test_readings_older_than_three_intervals_are_not_current() -> None:
    def reading(age: float) -> object:
        fleet = fleet_with(a_state(age=60), a_beat(), telemetry(age))
        return fleet.nodes["n1"].gpus(NOW)[0].reading

    assert reading(30)
    assert not reading(31)


def test_readings_of_before_a_change_are_not_those_of_whoever_came() -> None:
    fleet = fleet_with(a_state(age=5), a_beat(), telemetry(6))

    assert fleet.nodes["n1"].gpus(NOW)[0].reading is None


def test_age_is_counted_in_the_clock_of_the_node() -> None:
    view = fleet_with(a_beat(behind=3600), telemetry(3605)).nodes["n1"]

    assert view.telemetry_age_seconds(NOW) == 5
    assert view.node_time(NOW + at(2)) == NOW + at(2 - 3600)


def test_a_node_without_facts_is_gone_and_a_repeated_fact_changes_nothing() -> None:
    fleet = fleet_with(a_state())

    assert fleet.take(delivery(a_state()), NOW) == set()
    assert fleet.take(cleared(a_state()), NOW) == {"n1"}
    assert fleet.nodes == {}


def test_a_view_taken_before_does_not_change_afterwards() -> None:
    fleet = fleet_with(a_state(), a_beat())
    before = fleet.snapshot(NOW)

    fleet.take(delivery(a_state(GpuCondition.BUSY)), NOW)

    assert before.nodes["n1"].gpus(NOW)[0].condition is GpuCondition.IDLE
    assert fleet.nodes["n1"].gpus(NOW)[0].condition is GpuCondition.BUSY


def test_services_are_known_by_their_last_word() -> None:
    said = Availability(
        service="recorder", instance="main", state="online", connection="a", version="1", at=NOW
    )

    fleet = Fleet()

    assert fleet.take(delivery(said), NOW) == {EVERYTHING}
    assert fleet.snapshot(NOW).services["recorder", "main"] == said
    assert not fleet.snapshot(NOW).has_scheduler()


def test_a_nodes_connection_is_not_forgotten_when_its_blockers_come_before_its_inventory() -> None:
    fleet = fleet_with(
        connection("offline", "c"),
        Blockers(node="n1", gpus=(), workloads=(), at=NOW),
        a_state(),
        retained=True,
    )

    assert fleet.nodes["n1"].presence(NOW) is Presence.OFFLINE
    assert fleet.nodes["n1"].blockers is not None


def test_the_schedulers_word_alone_makes_no_node() -> None:
    fleet = fleet_with(Blockers(node="n1", gpus=(), workloads=(), at=NOW), retained=True)

    assert fleet.node("n1") is None
    assert not fleet.nodes


def test_a_node_that_falls_silent_as_our_own_clock_is_set_back_is_not_current_for_an_hour() -> None:
    fleet = fleet_with(connection("online", "a"), a_state(), a_beat())
    view = fleet.nodes["n1"]

    assert view.presence(NOW - at(3600)) is Presence.STALE
    assert view.gpus(NOW - at(3600))[0].condition is GpuCondition.UNKNOWN

    fleet.take(delivery(connection("offline", "a")), NOW - at(3600))
    assert fleet.nodes["n1"].presence(NOW - at(3600)) is Presence.OFFLINE
    fleet.take(delivery(a_beat()), NOW - at(3599))
    assert fleet.nodes["n1"].presence(NOW - at(3599)) is Presence.ONLINE


def test_a_scheduler_that_falls_silent_as_our_own_clock_is_set_back_is_not_there() -> None:
    beat = SchedulerBeat(body="{}", key="k", signature="s")
    fleet = fleet_with(beat)

    assert fleet.snapshot(NOW + at(15)).has_scheduler()
    assert not fleet.snapshot(NOW - at(3600)).has_scheduler()


def test_readings_are_shown_although_the_nodes_clock_was_set_back_after_a_gpu_changed() -> None:
    fleet = fleet_with(a_state(age=5), a_beat(behind=3600), telemetry(3600))

    assert fleet.nodes["n1"].gpus(NOW)[0].reading is not None


def test_a_beat_changes_a_node_when_a_clock_was_set_and_not_otherwise() -> None:
    fleet = fleet_with(a_beat(), a_state())

    assert fleet.take(delivery(a_beat(behind=-1)), NOW + at(1.3)) == set()
    assert fleet.take(delivery(a_beat(behind=3600)), NOW + at(2)) == {"n1"}
