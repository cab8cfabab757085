"""The whole runner over an in-memory bus, with simulated processes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gleaner import runtime
from gleaner.bus.messages import CauseKind, Desired, GpuCondition, Holder, RunState
from gleaner.bus.signature import Signer
from gleaner.settings import NodeSettings
from services.runner.pause import make_room, paused_by
from services.runner.service import alone
from services.runner.simulated import SimulatedLauncher
from services.runner.timing import Timing
from tests.builders import until
from tests.runner.rig import NODE, QUICK, Rig, gpu_state, people, signed_wish, workload


def rig_in(path: Path, *, timing: Timing = QUICK, **entry: object) -> Rig:
    return Rig(path, workload("/bin/true", **entry), launcher=SimulatedLauncher(), timing=timing)


async def test_a_run_is_told_from_start_to_end(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        await rig.launched()
        rig.bus.publish(people(active=True))
        await rig.is_over()

        told = [event["state"] for event in rig.events("r1")]
        assert told == ["starting", "running", "stopping", "clearing", "evicted"]


async def test_a_run_that_left_says_how_long_each_stage_took(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        await rig.launched()
        rig.bus.publish(people(active=True))
        fact = await rig.is_over()

        assert fact.stages
        stages = fact.stages.model_dump().values()
        assert all(seconds is not None and 0 <= seconds < 5 for seconds in stages)


async def test_a_simulated_run_says_that_it_is_one(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        await rig.launched()

        assert rig.facts["r1"].simulated


async def test_a_wish_without_a_live_beat_starts_nothing(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        rig.wish(rig.grant())

        await rig.refused("r1: no scheduler was heard lately")
        assert rig.facts == {}


async def test_a_retained_wish_is_carried_out_when_the_beat_comes(tmp_path: Path) -> None:
    rig = rig_in(tmp_path)
    async with rig.running():
        rig.remote.disconnect()
        rig.wish(rig.grant())
        rig.remote.connect()
        await rig.refused("no scheduler was heard")
        rig.beat()

        await rig.reached("r1", "running")


async def test_a_wish_that_somebody_else_signed_is_refused(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        rig.beat()
        stranger = Signer(bytes(32))
        rig.scheduler.publish(signed_wish(rig.grant(), generation=9, signer=stranger))

        await rig.refused(f"desired: key {stranger.key_id} is not one that this node obeys")


async def test_a_wish_that_was_altered_is_refused(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        wish = signed_wish(rig.grant(), generation=9)
        altered = {**wish.model_dump(), "body": wish.body.replace("r1", "r2")}
        rig.scheduler.publish(Desired(**altered))

        await rig.refused(f"desired: the signature is not that of key {wish.key}")


async def test_a_wish_for_another_node_under_our_topic_is_refused(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        rig.scheduler.publish(signed_wish(rig.grant(), generation=9, node="n2"))

        await rig.refused("desired: it is meant for node n2")


async def test_what_is_wished_for_twice_starts_once(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        rig.broker.copies = 2
        await rig.launched()
        for _ in range(10):
            rig.wish(rig.grant())
            rig.beat()
        await asyncio.sleep(0.2)

        assert [event["state"] for event in rig.events("r1")] == ["starting", "running"]


async def test_a_gpu_has_one_run_at_a_time(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        rig.wish(rig.grant("r1", "GPU-0"), rig.grant("r2", "GPU-0"))
        rig.beat()
        await rig.reached("r1", "running")

        await rig.refused("r2: GPU 0 is taken by run r1")


async def test_a_run_that_is_no_longer_wished_for_is_cancelled(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        await rig.launched("r1", "r2")
        rig.wish(rig.grant("r2", "GPU-1"))

        fact = await rig.is_over("r1")
        assert (fact.state, fact.cause and fact.cause.kind) == ("cancelled", CauseKind.NOT_DESIRED)
        assert rig.facts["r2"].state is RunState.RUNNING


async def test_a_cancelled_run_tells_why_it_is_no_longer_wished_for(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        await rig.launched("r1")
        rig.wish(withdrawn={"r1": "paused by alice: a new fan"})

        fact = await rig.is_over("r1")
        assert fact.cause is not None
        assert fact.cause.text == "paused by alice: a new fan"


async def test_a_run_goes_on_without_any_scheduler(tmp_path: Path) -> None:
    timing = Timing(tick=0.05, lease=0.2)
    async with rig_in(tmp_path, timing=timing).running() as rig:
        await rig.launched("r1")
        rig.scheduler.disconnect()
        await until(lambda: bool(rig.state and rig.state.lease == "lost"))
        rig.scheduler.connect()
        rig.wish(rig.grant("r1", "GPU-0"), rig.grant("r2", "GPU-1"))

        await rig.refused("r2: no scheduler was heard lately")
        assert rig.facts["r1"].state is RunState.RUNNING


async def test_the_reflex_works_without_any_broker(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        await rig.launched()
        rig.remote.disconnect()
        rig.bus.publish(gpu_state("GPU-0", GpuCondition.BUSY, "user1 computes"))

        fact = await rig.is_over()
        assert fact.state is RunState.EVICTED
        assert fact.stages
        assert fact.stages.noticed_to_term is not None


async def test_a_collector_that_falls_silent_makes_runs_leave(tmp_path: Path) -> None:
    timing = Timing(tick=0.05, beat=0.3, clearing=0.2)
    async with rig_in(tmp_path, timing=timing).running() as rig:
        await rig.launched()
        rig.be_silent()

        fact = await rig.is_over()
        assert (fact.state, fact.cause and fact.cause.kind) == ("evicted", CauseKind.NOT_WATCHED)
        assert "memory not given back" in fact.reason


async def test_a_pause_file_makes_runs_leave_and_lets_nothing_start(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        await rig.launched("r1")
        pause = tmp_path / "pause" / "pause"
        assert pause.parent.stat().st_mode & 0o7777 == 0o1777
        pause.touch()
        fact = await rig.is_over("r1")
        rig.wish(rig.grant("r2", "GPU-1"))

        await rig.refused("r2: paused by")
        assert fact.cause
        assert fact.cause.kind is CauseKind.PAUSED
        assert rig.state
        assert rig.state.paused

        pause.unlink()
        rig.beat()
        await rig.reached("r2", "running")


async def test_the_folder_of_a_configured_pause_file_is_left_as_it_is(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (tmp_path / "pause").symlink_to(private)

    make_room(NodeSettings(data_directory=tmp_path, pause_file=tmp_path / "pause" / "pause"))

    assert private.stat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_whatever_is_called_pause_pauses_and_is_not_opened(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "pause")

    assert (paused_by(tmp_path / "pause") or "").startswith("paused by ")


async def test_a_run_is_clear_only_when_its_gpu_is(tmp_path: Path) -> None:
    ours = Holder(pid=1, run="r1")
    async with rig_in(tmp_path).running() as rig:
        await rig.launched()
        rig.bus.publish(people(active=True))
        rig.bus.publish(gpu_state("GPU-0", GpuCondition.OURS, holders=(ours,)))
        await rig.reached("r1", "clearing")
        rig.bus.publish(gpu_state("GPU-0", GpuCondition.DIRTY))
        await asyncio.sleep(0.2)
        assert rig.facts["r1"].state is RunState.CLEARING
        rig.bus.publish(gpu_state("GPU-0", GpuCondition.IDLE))

        fact = await rig.is_over()
        assert fact.stages
        assert fact.stages.exit_to_clear
        assert fact.stages.exit_to_clear >= 0.2
        assert fact.cleared_at


async def test_memory_that_is_not_given_back_is_said_and_not_waited_for_for_ever(
    tmp_path: Path,
) -> None:
    timing = Timing(tick=0.05, clearing=0.2)
    async with rig_in(tmp_path, timing=timing).running() as rig:
        await rig.launched()
        rig.bus.publish(people(active=True))
        rig.bus.publish(gpu_state("GPU-0", GpuCondition.DIRTY))

        fact = await rig.is_over()
        assert fact.reason == (
            "evicted: user1 is active at pts/3; memory not given back, as far as anybody saw"
        )
        assert fact.cleared_at is None


async def test_a_fact_is_taken_back_when_it_is_over_recorded_and_not_wished_for(
    tmp_path: Path,
) -> None:
    async with rig_in(tmp_path).running() as rig:
        await rig.launched()
        folder = tmp_path / "node" / "runs" / "r1"
        assert folder.exists()
        rig.wish()
        await rig.is_over()
        await asyncio.sleep(0.2)
        assert "r1" in rig.facts
        rig.record_everything()

        await until(lambda: "r1" not in rig.facts and not folder.exists())
        await until(lambda: bool(rig.state and rig.state.runs == ()))


async def test_a_run_id_never_starts_again_after_its_fact_was_taken_back(tmp_path: Path) -> None:
    rig = rig_in(tmp_path)
    async with rig.running():
        await rig.launched()
        rig.wish()
        await rig.is_over()
        rig.record_everything()
        await until(lambda: "r1" not in rig.facts)
        rig.wish(rig.grant())

        await rig.refused("r1: a run id starts only once")

    again = rig_in(tmp_path)
    async with again.running():
        again.generation = 10
        again.wish(again.grant())
        again.beat()
        await again.refused("r1: a run id starts only once")


async def test_an_older_term_is_refused_after_a_restart(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        rig.wish(rig.grant(), term=7)
        rig.beat(term=7)
        await rig.reached("r1", "running")

    async with rig_in(tmp_path).running() as again:
        again.wish(again.grant("r2"), term=6)

        await again.refused("desired: term 6 is older than 7")


async def test_a_service_that_stops_cancels_its_runs(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        await rig.launched("r1", "r2")
        await rig.stop()

        causes = {fact.cause and fact.cause.kind for fact in rig.facts.values()}
        states = {fact.state for fact in rig.facts.values()}
        assert (states, causes) == ({RunState.CANCELLED}, {CauseKind.SHUTDOWN})


async def test_a_disk_that_cannot_be_written_starts_nothing_and_keeps_nobody(
    tmp_path: Path,
) -> None:
    async with rig_in(tmp_path).running() as rig:
        await rig.launched("r1")
        # A file where the folder of the next run would have to be.
        (tmp_path / "node" / "runs" / "r2").write_text("")
        rig.wish(rig.grant("r1", "GPU-0"), rig.grant("r2", "GPU-1"))

        await rig.refused("r2: nothing can be started")
        assert rig.state
        assert any("nothing can be started" in text for text in rig.state.limitations)
        rig.bus.publish(people(active=True))
        assert (await rig.is_over("r1")).state is RunState.EVICTED


async def test_an_entry_with_a_problem_is_held_and_comes_back_when_it_is_solved(
    tmp_path: Path,
) -> None:
    place = tmp_path / "place"
    async with rig_in(tmp_path, directory=place).running() as rig:
        await until(lambda: rig.catalogue is not None)
        rig.wish(rig.grant())
        rig.beat()
        await rig.refused(f"r1: entry fold: directory {place} does not exist")
        place.mkdir()

        await rig.reached("r1", "running")


async def test_the_beat_file_is_written_after_each_pass(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running():
        beat = tmp_path / "node" / "beat"
        await until(beat.exists)
        first = float(beat.read_text())

        await until(lambda: float(beat.read_text()) > first)


async def test_two_runners_never_share_a_data_directory(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running():
        with (
            pytest.raises(runtime.Fatal, match="another runner has this data directory"),
            alone(tmp_path),
        ):
            raise AssertionError("both would run")


async def test_the_runs_that_have_a_fact_are_named(tmp_path: Path) -> None:
    async with rig_in(tmp_path).running() as rig:
        await rig.launched("r1", "r2")

        await until(lambda: bool(rig.state and rig.state.runs == ("r1", "r2")))
        assert rig.state
        assert (rig.state.node, rig.state.lease, rig.state.term) == (NODE, "held", 1)


async def test_the_catalogue_names_no_command(tmp_path: Path) -> None:
    async with rig_in(tmp_path, environment={"SECRET": "hidden"}).running() as rig:
        await until(lambda: rig.catalogue is not None)
        assert rig.catalogue

        said = json.dumps(rig.catalogue.model_dump(mode="json"))
        assert "/bin/true" not in said
        assert "hidden" not in said
