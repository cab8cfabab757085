"""Whom a runner obeys, and every way in which it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gleaner.bus.messages import BeatBody, CatalogueEntry, DesiredBody, GpuCondition, Grant
from services.runner import obey
from services.runner.facts import Facts, with_gpu
from services.runner.obey import Allegiance, Place
from services.runner.timing import Timing
from tests.builders import NOW
from tests.runner.rig import gpu_state, inventory, people

TIMING = Timing()
GRANT = Grant(
    run="r1", entry="fold", digest="d", gpus=("GPU-0",), granted_at=NOW, reason="idle for 60 s"
)
ENTRY = CatalogueEntry(name="fold", kind="filler", gpus="each", digest="d", grace_seconds=5)


def wish(term: int = 1, generation: int = 1, *grants: Grant) -> DesiredBody:
    return DesiredBody(node="n1", term=term, generation=generation, runs=grants, at=NOW)


def beat(term: int = 1, sequence: int = 1) -> BeatBody:
    return BeatBody(term=term, generation=1, sequence=sequence, at=NOW)


def wished(allegiance: Allegiance, body: DesiredBody) -> Allegiance:
    return obey.take_desired(allegiance, body, "n1")[0]


def heard(allegiance: Allegiance, body: BeatBody, now: float = 100) -> Allegiance:
    return obey.take_beat(allegiance, body, now)[0]


def ready() -> Place:
    """Everything speaks for the grant."""
    facts = Facts(listening_since=0, inventory=inventory(), people=people(), beat_at=100)
    for gpu in ("GPU-0", "GPU-1"):
        facts = with_gpu(facts, gpu_state(gpu), 100)
    allegiance = heard(wished(Allegiance(), wish(1, 1, GRANT)), beat())
    return Place(facts=facts, allegiance=allegiance, entries={"fold": ENTRY}, seen=set())


def refusal(place: Place, grant: Grant = GRANT, now: float = 100) -> str | None:
    return obey.refuse(grant, place, now, TIMING)


def test_a_good_grant_is_carried_out() -> None:
    assert refusal(ready()) is None


def about(**facts: Any) -> Callable[[Place], Place]:
    return lambda place: replace(place, facts=replace(place.facts, **facts))


def gpu(state: GpuCondition, *reasons: str) -> Callable[[Place], Place]:
    return lambda place: replace(
        place, facts=with_gpu(place.facts, gpu_state("GPU-0", state, *reasons), 100)
    )


def entry(**changes: Any) -> Callable[[Place], Place]:
    return lambda place: replace(place, entries={"fold": ENTRY.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda place: replace(place, seen={"r1"}), "a run id starts only once"),
        (lambda place: replace(place, entries={}), "the catalogue of this node has no entry fold"),
        (entry(digest="other"), "entry fold was changed since it was granted"),
        (entry(problems=("user nobdy does not exist",)), "entry fold: user nobdy does not exist"),
        (entry(gpus="all"), "entry fold does not run on these GPUs (gpus = 'all')"),
        (entry(gpus=(1,)), "entry fold does not run on these GPUs (gpus = (1,))"),
        (about(paused="paused by user1"), "paused by user1"),
        (about(beat_at=None), "the collector completes no checks"),
        (about(beat_at=95), "the collector completes no checks"),
        (about(people=None), "nobody has said who is at this node"),
        (about(people=people(active=True)), "user1 is active at pts/3"),
        (about(gpus={}), "GPU 0: nothing is known about it"),
        (about(inventory=None), "this node has no GPU GPU-0"),
        (gpu(GpuCondition.BUSY, "user1 computes"), "GPU 0 is busy: user1 computes"),
        (gpu(GpuCondition.UNKNOWN), "GPU 0 is unknown"),
        (gpu(GpuCondition.OURS), "GPU 0 is ours"),
        (lambda place: replace(place, taken={"GPU-0": "r0"}), "GPU 0 is taken by run r0"),
        (lambda place: replace(place, obstacle="the disk is full"), "the disk is full"),
    ],
)
def test_a_grant_is_refused_for_each_thing_that_speaks_against_it(
    change: Callable[[Place], Place], why: str
) -> None:
    assert refusal(change(ready())) == why


@pytest.mark.parametrize("run", ["..", ".hidden", "a/b", ""])
def test_a_run_id_that_is_no_folders_name_is_refused(run: str) -> None:
    grant = GRANT.model_copy(update={"run": run})

    assert refusal(ready(), grant) == "its id cannot be the name of a folder"


@pytest.mark.parametrize("gpus", [(), ("GPU-0", "GPU-0")])
def test_a_grant_names_each_of_its_gpus_once(gpus: tuple[str, ...]) -> None:
    grant = GRANT.model_copy(update={"gpus": gpus})

    assert refusal(ready(), grant) == "it names no GPU, or one of them twice"


def test_the_parent_of_mig_devices_is_not_schedulable() -> None:
    place = ready()
    assert place.facts.inventory
    gpus = tuple(
        one.model_copy(update={"schedulable": False}) for one in place.facts.inventory.gpus
    )
    place = about(inventory=place.facts.inventory.model_copy(update={"gpus": gpus}))(place)

    assert refusal(place) == "GPU 0 is not schedulable (its MIG devices are)"


def test_a_retained_wish_alone_starts_nothing() -> None:
    place = replace(ready(), allegiance=wished(Allegiance(), wish(1, 1, GRANT)))

    assert refusal(place) == "no scheduler was heard lately"


def test_the_lease_ends_30_s_after_the_last_beat() -> None:
    allegiance = ready().allegiance
    leases = [obey.lease(allegiance, now, TIMING) for now in (100, 129.9, 130)]

    assert (leases, obey.lease(Allegiance(), 100, TIMING)) == (["held", "held", "lost"], "none")


def test_after_a_lost_connection_only_a_live_beat_allows_launches() -> None:
    allegiance = obey.disconnected(ready().allegiance)

    assert obey.lease(allegiance, 101, TIMING) == "lost"
    assert obey.lease(heard(allegiance, beat(1, 2), 102), 102, TIMING) == "held"


def test_a_repeated_beat_renews_nothing() -> None:
    assert heard(ready().allegiance, beat(1, 1), 125).beat_at == 100


def test_a_wish_of_one_term_is_not_carried_out_by_the_beat_of_another() -> None:
    place = replace(ready(), allegiance=heard(ready().allegiance, beat(2)))

    assert refusal(place) == "the scheduler that wished for it is not the one that is heard"


def test_an_older_term_is_refused_after_a_newer_one_was_seen() -> None:
    allegiance = heard(Allegiance(), beat(7))

    assert obey.take_desired(allegiance, wish(6), "n1") == (
        allegiance,
        "term 6 is older than 7, which spoke before",
    )
    assert obey.take_beat(allegiance, beat(6), 101)[1] == (
        "term 6 is older than 7, which spoke before"
    )


def test_an_older_generation_is_refused_within_its_term_only() -> None:
    allegiance = wished(Allegiance(), wish(1, 5))

    assert obey.take_desired(allegiance, wish(1, 4), "n1")[1] == "generation 4 is older than 5"
    assert obey.take_desired(allegiance, wish(1, 5), "n1")[1] is None
    assert obey.take_desired(allegiance, wish(2, 1), "n1")[1] is None


def test_a_wish_for_another_node_is_refused() -> None:
    assert obey.take_desired(Allegiance(), wish(), "n2")[1] == "it is meant for node n1"


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5), st.booleans()), max_size=20))
def test_terms_and_generations_only_ever_grow(said: list[tuple[int, int, bool]]) -> None:
    allegiance, seen = Allegiance(), []
    for term, number, is_beat in said:
        allegiance = (
            heard(allegiance, beat(term, number))
            if is_beat
            else wished(allegiance, wish(term, number))
        )
        seen.append((allegiance.term or 0, allegiance.generation or 0))

    assert seen == sorted(seen)
