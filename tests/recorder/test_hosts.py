"""What nodes say of themselves: kept, summed up and told as what they say of their GPUs."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gleaner.bus.messages import HostSample, Samples
from services.recorder.intake.rows import rows_of
from services.recorder.queries import answers
from services.recorder.queries.history import BadQuestion
from services.recorder.queries.questions import Known
from services.recorder.schema import tables
from services.recorder.store import Store
from services.recorder.upkeep.retention import Retention
from services.recorder.values import samples
from tests.builders import NOW
from tests.recorder.builders import a_query, an_event, hours_of, url
from tests.recorder.test_month import (
    INTERVAL,
    START,
    a_host_sample,
    a_sample,
    event,
    record,
    rows,
    settle,
    tidy_up,
)
from tests.recorder.two_days import NOW as AFTER_TWO_DAYS

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LONG_AGO = timedelta(days=36500)
FOR_EVER = Retention(samples=LONG_AGO, events=LONG_AGO, five_minutes=LONG_AGO, hours=LONG_AGO)


async def ask(
    store: Store, now: Any = AFTER_TWO_DAYS, keep: Retention = FOR_EVER, **wanted: Any
) -> list[dict[str, Any]]:
    known = Known(names=store.names, local=store.local, retention=keep)
    query = a_query(**{"what": "series", "of": "host", "node": "n1"} | wanted)
    return list((await answers.answer(store.read, query, known, now)).rows)


@pytest.mark.parametrize(
    ("points", "length", "resolution"),
    [(48, 2 * HOUR, 150), (24, 2 * HOUR, 300), (24, DAY, 3600), (1, DAY, 86400)],
)
async def test_a_series_of_the_host_is_there_at_every_resolution(
    store: Store, points: int, length: timedelta, resolution: int
) -> None:
    begin = START if length == DAY else START + 11 * HOUR
    found = await ask(store, since=begin, until=begin + length, points=points)

    assert {row["resolution_seconds"] for row in found} == {resolution}
    assert sum(row["seconds"] for row in found) == length.total_seconds()
    cpu = sum(row["cpu_percent"] * row["seconds"] for row in found)
    busy = (6 * 90 + 4 * 60 + 2 * 80) if length == DAY else 60
    assert cpu / 3600 == pytest.approx(busy / 4, abs=0.01)
    assert max(row["cpu_percent_max"] for row in found) == (22.5 if length == DAY else 15)
    assert found[0]["disk_used_percent"] == 61.5
    assert found[0]["network_sent_bytes_per_second"] == 0
    assert not [name for name in found[0] if "energy" in name or "idle" in name]
    if length != DAY:
        # Before noon nobody can tell.
        assert found[-1]["disk_used_percent"] is None


async def test_single_samples_of_the_host_come_as_they_were_said(store: Store) -> None:
    since = START + 12 * HOUR
    found = await ask(store, what="samples", since=since, until=since + HOUR, limit=1000)

    said = [a_host_sample(since + INTERVAL * place) for place in range(24)]
    assert found == [{"node": "n1", **one.model_dump(mode="json")} for one in reversed(said)]
    of_gpus = await ask(store, what="samples", of=None, since=since, until=since + HOUR, limit=1000)
    assert {row["gpu"] for row in of_gpus} == {"GPU-1", "GPU-2"}
    assert len(of_gpus) == 48


async def test_pages_of_samples_of_the_host_leave_none_out(store: Store) -> None:
    known = Known(names=store.names, local=store.local, retention=FOR_EVER)
    found: list[str] = []
    query = a_query(what="samples", of="host", limit=100, until=START + DAY)
    while True:
        page = await answers.answer(store.read, query, known, AFTER_TWO_DAYS)
        found += [str(row["at"]) for row in page.rows]
        if page.cursor is None:
            break
        query = query.model_copy(update={"cursor": page.cursor})

    assert len(found) == len({*found}) == 575
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"gpu": "GPU-1"}, "name it, and no GPU"),
        ({"node": None, "gpu": "GPU-1"}, "name it, and no GPU"),
        ({"node": None}, "is of one GPU or node; name it"),
        ({"node": "n9"}, "was ever recorded"),
        ({"what": "usage"}, "of does not go with usage"),
        ({"what": "events"}, "of goes with samples and series"),
        ({"what": "samples", "gpu": "GPU-1"}, "and with no GPU"),
        ({"what": "last_hour"}, "of does not go with last_hour"),
    ],
)
async def test_what_no_host_has_is_refused(store: Store, wanted: dict[str, Any], why: str) -> None:
    with pytest.raises(BadQuestion, match=why):
        await ask(store, **wanted)


async def test_a_node_without_a_gpu_has_a_host(tmp_path: Path) -> None:
    data = Samples(samples=(), host=tuple(a_host_sample(START + INTERVAL * n) for n in (1, 2)))
    said = an_event(1, kind="samples", data=data.model_dump(mode="json"), at=START + HOUR)
    async with Store(url(tmp_path)) as store:
        await record(store, [said], START + HOUR)
        await settle(store, START + HOUR)

        (row,) = await ask(store, START + HOUR, since=START, points=1)
        assert (row["samples"], row["seconds"], row["cpu_percent"]) == (2, 300, 22.5)
        assert len(await ask(store, START + HOUR, what="samples")) == 2
        assert await rows(store, tables.event) == []
        assert await ask(store, START + HOUR, of=None, what="samples") == []


async def test_what_comes_twice_counts_once_and_what_comes_late_counts_too(tmp_path: Path) -> None:
    first = [a_sample(START + INTERVAL * place) for place in range(1, 25)]
    async with Store(url(tmp_path)) as store:
        await record(store, [event(1, first[:10])], START + HOUR)
        await settle(store, START + HOUR)
        # The same again under another number, and what was missing in between.
        await record(store, [event(2, first[5:20])], START + HOUR)
        await settle(store, START + HOUR)
        # So long after that the samples of that time are gone.
        later = START + timedelta(days=4)
        await tidy_up(store, later)
        await record(store, [event(3, first[20:])], later)
        await settle(store, later)

        (day,) = await rows(store, tables.host_1d)
        node = store.names.number["n1"]
        assert (day["samples"], day["seconds"]) == (24, 3600)
        assert day["cpu_percent_sum"] == 3600 * 22.5
        (hour,) = (await hours_of(store, node, tables.HOSTS)).values()
        assert (hour["seconds"], hour["cpu_percent_sum"]) == (3600, 3600 * 22.5)
        assert (hour["disk_used_percent_seconds"], hour["disk_used_percent_max"]) == (0, None)
        assert sum(row["seconds"] for row in await rows(store, tables.host_5m)) == 3600


async def test_sums_go_by_their_age_as_those_of_gpus(tmp_path: Path) -> None:
    old = [a_sample(START + INTERVAL * place) for place in range(1, 25)]
    async with Store(url(tmp_path)) as store:
        await record(store, [event(1, old)], START + HOUR)
        await settle(store, START + HOUR)
        for days, left in ((6, (0, 1, 1)), (12, (0, 0, 1))):
            await tidy_up(store, START + timedelta(days=days))
            found = [
                len(await store.read(table.select()))
                for table in (tables.host_5m, tables.host_1h, tables.host_1d)
            ]
            assert tuple(found) == left


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": 0},
        {"seconds": 1e9},
        {"cpu_percent": 1e18},
        {"network_sent_bytes_per_second": 1e18},
        {"memory_used_bytes": 2**62},
        {"at": "1000-01-01T00:00:00Z"},
    ],
)
def test_what_no_host_can_say_is_kept_as_it_came_and_holds_up_no_sum(
    wrong: dict[str, Any],
) -> None:
    host = a_host_sample(START).model_dump(mode="json")
    gpu = a_sample(START).model_dump(mode="json")
    data = {"samples": [gpu], "host": [host | wrong, host]}
    made = rows_of(an_event(kind="samples", data=data), NOW)

    assert (len(made.samples), len(made.hosts)) == (1, 1)
    assert made.event is not None
    assert json.loads(made.event["data"]) == {"host": [host | wrong]}


def test_no_gpu_draws_more_than_all_power_stations() -> None:
    gpu = a_sample(START).model_dump(mode="json")
    for wrong, is_kept in (({"power_watts": 1e13}, False), ({"energy_joules": 1e11}, True)):
        data = {"samples": [gpu | wrong]}

        assert bool(rows_of(an_event(kind="samples", data=data), NOW).samples) is is_kept


def test_what_was_written_is_read_again() -> None:
    said = [a_host_sample(START + INTERVAL * place).model_dump() for place in range(5)]
    said += [HostSample(at=START + HOUR, seconds=10, cpu_percent=1.5).model_dump()]

    text = samples.written([], {}, said)

    assert [*samples.read_host(text)] == said
    assert [*samples.read(text)] == []
