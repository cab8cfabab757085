"""What a GPU is, and why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gleaner.bus.messages import GpuCondition, GpuReading, Holder
from gleaner.settings import GpuSettings
from services.collector import busy
from services.collector.busy import MIB, Evidence, Past, Verdict
from services.collector.interface import DriverProcess, GpuSweep, Process
from tests.builders import NOW

POLICY = busy.policy(GpuSettings())


def a_policy(**settings: Any) -> busy.Policy:
    return busy.policy(GpuSettings(**settings))


def a_sweep(**changes: Any) -> GpuSweep:
    reading = {"utilization_percent": 0.0, "memory_used_bytes": 4 * MIB} | {
        name: changes.pop(name)
        for name in ("utilization_percent", "memory_used_bytes", "problems")
        if name in changes
    }
    values: dict[str, Any] = {"processes": ()} | changes
    return GpuSweep(gpu="GPU-1", reading=GpuReading(gpu="GPU-1", index=0, **reading), **values)


def a_holder(pid: int = 4711, **changes: Any) -> Holder:
    values: dict[str, Any] = {
        "user": "user1",
        "user_id": 1001,
        "started_at": NOW,
        "command": "python",
        "kinds": ("compute",),
    }
    return Holder(pid=pid, **(values | changes))


def a_process(program: str, user: str | None = "user1") -> Process:
    return Process(
        pid=4711, started_ticks=1, started_at=NOW, parent_pid=1, user_id=1001, user=user,
        program=program, command=program, cgroup=None, token=None,
    )  # fmt: skip


def judged(
    *holders: Holder,
    sweep: GpuSweep | None = None,
    past: Past | None = None,
    policy: busy.Policy = POLICY,
    now: float = 0,
    **evidence: Any,
) -> tuple[Verdict, Past]:
    found = Evidence(sweep=sweep or a_sweep(), holders=holders, **evidence)
    return busy.judge(found, past or Past(), policy, now)


def said(*holders: Holder, **arguments: Any) -> tuple[str, tuple[str, ...]]:
    verdict, _ = judged(*holders, **arguments)
    return verdict.state.value, verdict.reasons


def test_nobody_there_is_idle() -> None:
    assert said() == ("idle", ("nobody uses it",))


def test_a_strangers_process_makes_it_busy_even_if_it_does_nothing() -> None:
    assert said(a_holder()) == ("busy", ("user1 computes (pid 4711, python)",))


def test_whoever_has_no_name_is_named_by_number() -> None:
    assert said(a_holder(user=None))[1] == ("user 1001 computes (pid 4711, python)",)


def test_a_lost_gpu_is_lost_whoever_is_there() -> None:
    assert said(a_holder(), sweep=a_sweep(lost="GPU is lost")) == ("lost", ("GPU is lost",))


def test_a_driver_that_does_not_answer_leaves_it_unknown() -> None:
    found = Evidence(sweep=None, problem="no answer within 3 s")

    verdict, _ = busy.judge(found, Past(), POLICY, 0)

    assert (verdict.state, verdict.reasons) == (GpuCondition.UNKNOWN, ("no answer within 3 s",))


def test_a_process_list_that_failed_leaves_it_unknown() -> None:
    sweep = a_sweep(processes=None, problems={"compute": "Unknown Error"})

    assert said(sweep=sweep) == (
        "unknown",
        ("the driver does not say who uses it (compute: Unknown Error)",),
    )


def test_without_driver_and_root_it_is_unknown() -> None:
    blind = a_sweep(driver_asked=False)

    assert said(sweep=blind, sees_others=False)[0] == "unknown"
    assert said(sweep=blind, sees_others=True)[0] == "idle"
    assert said(sees_others=False)[0] == "idle"


@pytest.mark.parametrize(
    ("configured", "program", "does_count"),
    [
        ("nvidia-smi", "nvidia-smi", False),
        ("nvidia-persistenced", "nvidia-persistenced", False),
        ("nvidia-persistenced", "nvidia-persiste", False),
        ("nvidia-smi", "n", True),
        ("nvidia-smi", "nvidia-smi2", True),
        ("nvidia-persistenced", "nvidia-persist", True),
        ("Xorg", "xorg", True),
    ],
)
def test_programs_are_ignored_by_their_whole_name(
    configured: str, program: str, does_count: bool
) -> None:
    policy = a_policy(ignore_programs=(configured,))

    assert (busy.ignored(a_process(program), policy) is None) == does_count


def test_names_with_spaces_around_them_are_ignored_too() -> None:
    policy = a_policy(ignore_programs=("nvidia-smi", " Xorg"))

    assert busy.ignored(a_process("Xorg"), policy) == "program Xorg"


def test_users_are_ignored_by_name() -> None:
    policy = a_policy(ignore_users=("backup",))

    assert busy.ignored(a_process("python", "backup"), policy) == "user backup"
    assert busy.ignored(a_process("python", None), policy) is None


def test_an_ignored_process_leaves_it_idle() -> None:
    assert said(a_holder(ignored="program nvidia-smi"))[0] == "idle"


def test_an_open_device_counts_only_where_the_settings_say_so() -> None:
    holder = a_holder(kinds=("device_open",))

    assert said(holder) == ("busy", ("user1 has the device open (pid 4711, python)",))
    assert said(holder, policy=a_policy(busy_when=("compute_process",)))[0] == "idle"


def test_mps_clients_compute() -> None:
    policy = a_policy(busy_when=("compute_process",))

    assert said(a_holder(kinds=("mps",)), policy=policy)[0] == "busy"


def test_a_stranger_beside_our_run_makes_it_busy() -> None:
    assert said(a_holder(1, run="r1"), a_holder(2))[1] == ("user1 computes (pid 2, python)",)


def test_our_runs_alone_make_it_ours() -> None:
    assert said(a_holder(1, run="r1"), a_holder(2, run="r1")) == ("ours", ("run r1",))


def test_utilization_makes_it_busy_unless_it_is_our_own() -> None:
    policy = a_policy(busy_when=("utilization_percent >= 10",))
    sweep = a_sweep(utilization_percent=37.0)

    assert said(sweep=sweep, policy=policy) == ("busy", ("utilization is 10 % or more",))
    assert said(a_holder(run="r1"), sweep=sweep, policy=policy)[0] == "ours"
    assert said(sweep=a_sweep(utilization_percent=9.0), policy=policy)[0] == "idle"


def test_a_reading_that_counts_and_is_not_known_is_never_idle() -> None:
    policy = a_policy(busy_when=("utilization_percent >= 10",))

    assert said(sweep=a_sweep(utilization_percent=None), policy=policy)[0] == "unknown"


def test_memory_makes_it_busy_less_what_our_run_uses() -> None:
    policy = a_policy(busy_when=("memory_used_bytes >= 1073741824",))
    sweep = a_sweep(memory_used_bytes=1500 * MIB)
    ours = a_holder(run="r1", memory_used_bytes=1000 * MIB)

    assert said(sweep=sweep, policy=policy)[1] == ("1024 MiB of memory or more are in use",)
    assert said(ours, sweep=sweep, policy=policy)[0] == "ours"


def test_a_stranger_that_does_nothing_for_long_holds_it() -> None:
    past = Past()
    states = []
    for now in (0, 1000, 1799, 1800):
        verdict, past = judged(a_holder(), past=past, now=now)
        states.append(verdict.state.value)

    assert states == ["busy", "busy", "busy", "held"]


def test_who_computes_or_has_just_come_does_not_hold_it() -> None:
    _, past = judged(a_holder(), now=0)
    _, past = judged(a_holder(), past=past, now=900, sweep=a_sweep(utilization_percent=50.0))
    assert judged(a_holder(), past=past, now=1900)[0].state is GpuCondition.BUSY
    _, past = judged(a_holder(), past=past, now=2000)
    verdict, past = judged(a_holder(), past=past, now=3900)
    assert verdict.state is GpuCondition.HELD

    assert judged(a_holder(), a_holder(5), past=past, now=3901)[0].state is GpuCondition.BUSY


def test_unknown_utilization_is_not_taken_for_doing_nothing() -> None:
    silent = a_sweep(utilization_percent=None)
    _, past = judged(a_holder(), sweep=silent, now=0)

    assert judged(a_holder(), sweep=silent, past=past, now=9999)[0].state is GpuCondition.BUSY


def test_a_listed_pid_that_cannot_be_found_makes_it_dirty() -> None:
    assert said(a_holder(alive=False)) == (
        "dirty",
        ("the driver lists pid 4711, which cannot be found",),
    )


def test_memory_that_nobody_holds_makes_it_dirty_in_the_second_check() -> None:
    full = a_sweep(memory_used_bytes=500 * MIB)
    _, past = judged(now=0)
    first, past = judged(sweep=full, past=past, now=1)
    second, past = judged(sweep=full, past=past, now=2)
    third, past = judged(past=past, now=3)

    assert [one.state.value for one in (first, second, third)] == ["idle", "dirty", "idle"]
    assert second.reasons == ("memory is in use by nobody we can name",)


def test_memory_that_is_not_back_after_a_run_makes_it_dirty_at_once() -> None:
    _, past = judged(now=0)
    full = a_sweep(memory_used_bytes=900 * MIB)
    _, past = judged(a_holder(run="r1", memory_used_bytes=890 * MIB), sweep=full, past=past, now=1)

    assert judged(sweep=full, past=past, now=2)[0].state is GpuCondition.DIRTY


def test_a_little_memory_above_the_baseline_is_nothing() -> None:
    _, past = judged(sweep=a_sweep(memory_used_bytes=600 * MIB), now=0)
    for now in (1, 2, 3):
        verdict, past = judged(sweep=a_sweep(memory_used_bytes=790 * MIB), past=past, now=now)
        assert verdict.state is GpuCondition.IDLE


def test_what_an_ignored_program_uses_is_explained() -> None:
    xorg = a_holder(kinds=("graphics",), ignored="program Xorg", memory_used_bytes=900 * MIB)
    _, past = judged(now=0)
    for now in (1, 2):
        verdict, past = judged(xorg, sweep=a_sweep(memory_used_bytes=910 * MIB), past=past, now=now)
        assert verdict.state is GpuCondition.IDLE


def test_a_gpu_full_at_the_start_is_not_taken_for_empty() -> None:
    assert said(sweep=a_sweep(memory_used_bytes=30_000 * MIB))[0] == "dirty"


def test_a_broken_gpu_is_lost_to_us_and_named_beside_a_person() -> None:
    why = ("XID 48",)

    assert judged(broken=why)[0].state == "lost"
    assert judged(a_holder(run="r1"), broken=why)[0].state == "lost"
    assert judged(a_holder(), broken=why)[0].reasons == (
        "user1 computes (pid 4711, python)",
        "XID 48",
    )
    assert judged(sweep=a_sweep(lost="GPU is lost"), broken=why)[0].reasons == (
        "GPU is lost",
        "XID 48",
    )


maybe_percent = st.none() | st.floats(0, 100)
maybe_memory = st.none() | st.integers(0, 2**36)
some_holders = st.lists(
    st.builds(
        a_holder,
        st.integers(1, 5),
        run=st.none() | st.just("r1"),
        ignored=st.none() | st.just("program nvidia-smi"),
        alive=st.booleans(),
        memory_used_bytes=maybe_memory,
        kinds=st.sampled_from([("compute",), ("graphics",), ("device_open",)]),
    ),
    max_size=3,
)


@given(
    load=maybe_percent,
    memory=maybe_memory,
    holders=some_holders,
    listed=st.booleans(),
    problem=st.none() | st.just("hung"),
    broken=st.sampled_from([(), ("XID 48",)]),
    past=st.builds(Past, state=st.none() | st.sampled_from(GpuCondition)),
)
def test_idle_means_that_everything_is_known_and_nobody_is_there(
    load: float | None,
    memory: int | None,
    holders: list[Holder],
    listed: bool,
    problem: str | None,
    broken: tuple[str, ...],
    past: Past,
) -> None:
    sweep = a_sweep(
        utilization_percent=load,
        memory_used_bytes=memory,
        processes=(DriverProcess(pid=1, kinds=frozenset(), memory_used_bytes=None),)
        if listed
        else None,
    )

    verdict, _ = judged(*holders, sweep=sweep, problem=problem, past=past, broken=broken)

    assert verdict.reasons
    if verdict.state is GpuCondition.IDLE:
        assert listed
        assert problem is None
        assert not broken
        assert all(one.alive and one.ignored for one in holders)
