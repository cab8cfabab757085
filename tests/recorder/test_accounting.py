"""Roll-ups and use: invariants, and what was sealed."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.messages import Recorded
from services.recorder import service
from services.recorder.intake.rows import rows_of
from services.recorder.schema import tables
from services.recorder.store import Store
from services.recorder.values import rollup, use
from tests.builders import NOW, until
from tests.recorder.builders import KEEP, an_event, recording, samples_left, url
from tests.recorder.test_month import (
    IS_OF_ONE,
    START,
    a_sample,
    event,
    record,
    rows,
    settle,
)


def sample_rows(minutes: list[int]) -> list[use.Row]:
    made = rows_of(event(1, [a_sample(START + timedelta(minutes=one)) for one in minutes]), NOW)
    return list(made.samples)


@given(minutes=st.lists(st.integers(1, 1440), min_size=1, max_size=60, unique=True))
def test_buckets_add_up_to_what_all_samples_come_to(minutes: list[int]) -> None:
    samples = sample_rows(minutes)
    parts: dict[object, list[rollup.Row]] = {}
    for one in samples:
        parts.setdefault(rollup.start_of(rollup.slot_of(one["at"]), timedelta(hours=1)), []).append(
            one
        )

    together = rollup.of_totals(map(rollup.of_samples, parts.values()))

    assert together == rollup.of_samples(samples)


@given(
    minutes=st.lists(st.integers(480, 1080), min_size=1, max_size=60, unique=True),
    chance=st.randoms(use_true_random=False),
)
def test_use_that_comes_in_pieces_is_counted_once(
    minutes: list[int], chance: random.Random
) -> None:
    """However the samples are dealt out, all that is new adds up to all there is."""
    samples = sample_rows(minutes)
    first = [one for one in samples if chance.random() < 0.5]
    before = use.stretches(first)

    for who, now in use.stretches(samples).items():
        counted = sum(one["seconds"] for one in before.get(who, []))
        new = sum(one["seconds"] for one in use.news(now, before.get(who, [])))
        assert counted + new == sum(one["seconds"] for one in now)


def test_who_has_several_containers_is_one_user_on_the_gpu() -> None:
    sample = a_sample(START + timedelta(hours=9))
    users = sample.users or ()
    more = sample.model_copy(
        update={"users": (*users, users[0].model_copy(update={"container": "0ther"}))}
    )
    (row,) = rows_of(event(1, [more]), NOW).samples

    ((who, (stretch,)),) = use.stretches([row]).items()

    assert who == use.Who("alice", "", "")
    assert (stretch["seconds"], stretch["shared_seconds"]) == (150, 0)
    assert stretch["memory_byte_seconds"] == 150 * 2 * 2**30


def test_nobody_known_is_somebody_and_an_unknown_reading_is_no_zero() -> None:
    sample = a_sample(START + timedelta(hours=9)).model_copy(
        update={"utilization_percent": None, "energy_used_joules": None, "power_watts": None}
    )
    users = tuple(one.model_copy(update={"user": None}) for one in sample.users or ())
    (row,) = rows_of(event(1, [sample.model_copy(update={"users": users})]), NOW).samples

    totals = rollup.of_samples([row])
    assert (totals["utilization_percent_seconds"], totals["utilization_percent_max"]) == (0, None)
    assert (totals["energy_seconds"], totals["busy_seconds"]) == (0, 150)
    assert [who.user for who in use.stretches([row])] == [""]


async def test_what_was_deleted_by_age_is_not_counted_again_when_it_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "WATERMARK_SECONDS", 0.0)
    monkeypatch.setattr(service, "ROLL_UP_SECONDS", 0.01)
    said = list[Recorded]()
    broker, old = MemoryBroker(), event(1, [a_sample(START + timedelta(hours=9))])
    async with Store(url(tmp_path)) as store, MemoryBus(broker, "node", "n1") as node:
        node.subscribe(Recorded, lambda one: said.append(one.message))  # type: ignore[arg-type]
        await record(store, [old], NOW)
        await settle(store, NOW)
        while await store.seal(KEEP.sealed(NOW)):
            pass
        assert await samples_left(store) == []

        bus = MemoryBus(broker, "recorder", "main")
        async with recording(bus, store), bus:
            node.publish(old)
            node.publish(an_event(2, at=NOW))
            await until(lambda: any(one.streams == {"s1": 2} for one in said))

        await settle(store, NOW)
        (day,) = await rows(store, tables.sample_1d, IS_OF_ONE)
        assert (day["samples"], day["busy_seconds"]) == (1, 150)


async def test_samples_that_would_spoil_sums_are_kept_as_an_event_only() -> None:
    good = event(1, [a_sample(START + timedelta(hours=9))])
    for seconds in (0.0, -5.0, 1e9):
        data = {"samples": [good.data["samples"][0] | {"seconds": seconds}]}  # type: ignore[index,call-overload,operator]
        assert rows_of(an_event(1, kind="samples", data=data), NOW).samples == ()
