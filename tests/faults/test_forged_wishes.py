"""Wishes that the scheduler did not utter, or uttered for another time or place."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gleaner.bus.codec import encode
from gleaner.bus.messages import BeatBody, Desired, DesiredBody, Grant, RunnerState, SchedulerBeat
from gleaner.bus.signature import Signer, load_or_make_key
from tests.faults.bad import Intruder
from tests.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]


async def test_nobody_but_the_scheduler_starts_or_stops_a_run(common_path: Path) -> None:
    system = System(common_path, keeps_logs=True)
    wishes: list[Desired] = []
    said: list[RunnerState] = []
    system.bus.subscribe(Desired, lambda one: wishes.append(one.message))
    system.bus.subscribe(RunnerState, lambda one: said.append(one.message))
    async with system:
        await system.until(lambda: len(system.runs()) == 2)
        genuine, before = wishes[-1], {run.run: run.pid for run in system.runs()}
        body = DesiredBody.model_validate_json(genuine.body)
        signer = load_or_make_key(common_path / "data" / "keys" / "scheduler.key")
        stranger = Signer(b"s" * 32)
        nothing = body.model_copy(update={"runs": (), "generation": body.generation + 50})
        intruder = Intruder(system.broker)

        def forge(by: Signer, **change: object) -> Desired:
            return Desired(node="n1", **by.sign(nothing.model_copy(update=change)))

        tampered = json.dumps(json.loads(genuine.body) | {"runs": []})
        forgeries = {
            "another key": (forge(stranger), "is not one that this node obeys"),
            "a changed body": (
                genuine.model_copy(update={"body": tampered}),
                "the signature is not that of",
            ),
            "another node's": (forge(signer, node="n2"), "it is meant for node n2"),
            "our key's name, another signature": (
                forge(stranger).model_copy(update={"key": genuine.key}),
                "the signature is not that of",
            ),
            "an older term": (forge(signer, term=0), "term 0 is older than"),
            "an older generation": (forge(signer, generation=0), "generation 0 is older than"),
        }
        for what, (wish, why) in forgeries.items():
            told = len(said)
            intruder.say(wish.topic, encode(wish), retain=True)
            await system.until(
                lambda told=told, why=why: any(
                    why in one for state in said[told:] for one in state.refusals
                ),
                5,
            )
            assert {run.run: run.pid for run in system.runs()} == before, what
        grant = Grant.model_validate(
            body.runs[0].model_dump() | {"run": "forged-1", "granted_at": datetime.now(UTC)}
        )
        more = DesiredBody.model_validate(body.model_dump() | {"runs": (*body.runs, grant)})
        intruder.say(genuine.topic, encode(Desired(node="n1", **stranger.sign(more))))
        beat = SchedulerBeat(
            **stranger.sign(BeatBody(term=99, generation=1, sequence=1, at=datetime.now(UTC)))
        )
        intruder.say(beat.topic, encode(beat))
        await system.until(
            lambda: any(one.startswith("scheduler beat") for one in said[-1].refusals), 5
        )
        intruder.end()

        assert {run.run: run.pid for run in system.runs()} == before
        assert system.processes["scheduler"].poll() is None


async def test_a_wish_of_yesterday_that_lies_at_the_broker_starts_nothing(
    common_path: Path,
) -> None:
    system = System(common_path)
    wishes: list[Desired] = []
    system.bus.subscribe(Desired, lambda one: wishes.append(one.message))
    async with system:
        await system.until(lambda: len(system.runs()) == 2)
        system.stop("scheduler")
        system.stop("node")
        shutil.rmtree(common_path / "data" / "node")
        system.told.write_text("")

        system.start("node")
        said: list[RunnerState] = []
        system.bus.subscribe(RunnerState, lambda one: said.append(one.message))
        await system.until(
            lambda: bool(said) and any("no scheduler was heard" in one for one in said[-1].refusals)
        )

        assert system.told.read_text() == ""
        system.start("scheduler")
        await system.until(lambda: len(system.runs()) == 2)
