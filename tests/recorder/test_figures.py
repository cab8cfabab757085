"""Series and usage: what a known day comes to, at whatever resolution is asked for."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from gleaner.bus.messages import SampleUser
from gleaner.figures import By, columns_of
from services.recorder.queries import answers, questions
from services.recorder.queries.history import BadQuestion
from services.recorder.queries.questions import Known
from services.recorder.store import Store
from services.recorder.upkeep.retention import Retention
from tests.recorder.builders import a_query, url
from tests.recorder.test_history import page
from tests.recorder.test_month import INTERVAL, START, a_sample, event, record, settle
from tests.recorder.two_days import NOW

KEEP = Retention(samples=timedelta(days=3), events=timedelta(days=731))


def known(store: Store, keep: Retention = KEEP, **more: Any) -> Known:
    return Known(**({"names": store.names, "local": store.local, "retention": keep} | more))


async def ask(
    store: Store, keep: Retention = KEEP, more: dict[str, Any] | None = None, **wanted: Any
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor = None
    while True:
        answer = await answers.answer(
            store.read, a_query(cursor=cursor, **wanted), known(store, keep, **more or {}), NOW
        )
        rows += answer.rows
        cursor = answer.cursor
        if cursor is None:
            return rows


@pytest.mark.parametrize(("points", "resolution"), [(2, 86400), (48, 3600), (576, 300)])
async def test_a_series_has_the_resolution_that_fits(
    store: Store, points: int, resolution: int
) -> None:
    since, until = START, START + timedelta(days=2)

    rows = await ask(
        store, what="series", gpu="GPU-1", points=points, since=since, until=until, limit=100
    )

    assert len(rows) == points
    assert {row["resolution_seconds"] for row in rows} == {resolution}
    assert rows[-1]["start"] == START.isoformat()
    assert sum(row["busy_seconds"] for row in rows) == 2 * 6 * 3600
    assert sum(row["energy_joules"] for row in rows) == 2 * 3600 * (1500 + 1800 + 200 + 500)
    assert max(row["utilization_percent_max"] for row in rows) == 90
    mean = sum(row["utilization_percent"] * row["seconds"] for row in rows) / (2 * 86400)
    assert mean == pytest.approx((6 * 90 + 4 * 60 + 2 * 80) / 24)


async def test_a_short_series_is_of_single_samples(store: Store) -> None:
    since, until = START + timedelta(hours=7), START + timedelta(hours=9)

    rows = await ask(store, what="series", gpu="GPU-1", points=48, since=since, until=until)

    assert {row["resolution_seconds"] for row in rows} == {150}
    assert [row["busy_seconds"] for row in rows] == [150] * 24 + [0] * 24


async def test_a_series_of_a_node_is_that_of_all_its_gpus(store: Store) -> None:
    rows = await ask(store, what="series", node="n1", points=2, since=START, until=NOW)

    assert sum(row["busy_seconds"] for row in rows) == 2 * 2 * 6 * 3600


async def test_what_is_too_old_for_a_fine_resolution_comes_coarser(store: Store) -> None:
    short = Retention(samples=timedelta(hours=1), events=timedelta(days=9))

    rows = await ask(store, short, what="series", gpu="GPU-1", points=5000, since=START)

    assert {row["resolution_seconds"] for row in rows} == {300}


async def test_gpu_hours_by_user_are_those_of_the_story(store: Store) -> None:
    rows = await ask(store, what="usage", since=START)

    told = [(row["user"], row["entry"], row["gpu_hours"], row["held_hours"]) for row in rows]
    assert told == [("alice", None, 32, 8), (None, "fold", 24, 0), ("bob", None, 8, 0)]
    assert [row["shared_hours"] for row in rows] == [8, 0, 8]
    assert rows[2]["utilized_hours"] == pytest.approx(8 * 0.8)


@pytest.mark.parametrize("by", ["node", "model", "day", "month", "weekday_hour"])
async def test_memory_times_time_is_that_of_the_story(store: Store, by: str) -> None:
    users = await ask(store, what="usage", since=START)
    rows = await ask(store, what="usage", by=by, since=START)

    told = {row["user"] or row["entry"]: row["memory_byte_hours"] / 2**30 for row in users}
    assert told == {"alice": 32, "bob": 8 * 2, "fold": 24 / 1024}
    total = sum(row["memory_byte_hours"] or 0 for row in rows) / 2**30
    assert total == sum(told.values())


async def test_every_answer_has_the_columns_that_are_promised(store: Store) -> None:
    for by in get_args(By):
        for user in (None, "alice"):
            rows = await ask(store, what="usage", by=by, user=user, since=START)
            assert tuple(rows[0]) == columns_of("usage", by, of_one_user=user is not None), by
    for what, wanted in (("series", {"node": "n1", "since": START}), ("quotas", {})):
        rows = await ask(store, what=what, **wanted)
        assert tuple(rows[0]) == columns_of(what)
    rows = await ask(store, what="series", node="n1", of="host", since=START)
    assert tuple(rows[0]) == columns_of("series", of_host=True)
    rows = await ask(store, what="latencies")
    assert tuple(rows[0]) == columns_of("latencies")


async def test_memory_that_nobody_knew_is_not_none_at_all(tmp_path: Path) -> None:
    someone = SampleUser(user="alice", processes=1)
    changed = {"memory_used_bytes": None, "users": (someone,)}
    async with Store(url(tmp_path)) as store:
        first = a_sample(START + 180 * INTERVAL).model_copy(update=changed)
        await record(store, [event(1, [first])], NOW)
        await settle(store, NOW)

        for by in ("user", "day"):
            (row,) = await ask(store, what="usage", by=by, since=START)
            assert row["memory_byte_hours"] is None


@pytest.mark.parametrize(
    ("by", "keys", "hours"),
    [
        ("node", ["n1"], 56),
        ("gpu", ["n1", "n1"], 28),
        ("day", ["2026-03-02", "2026-03-01"], 28),
        ("week", ["2026-W10", "2026-W09"], 28),
        ("month", ["2026-03"], 56),
    ],
)
async def test_gpu_hours_are_told_by_whatever_is_asked(
    store: Store, by: str, keys: list[str], hours: float
) -> None:
    rows = await ask(store, what="usage", by=by, since=START, limit=1)

    assert [next(iter(row.values())) for row in rows] == keys
    assert {row["gpu_hours"] for row in rows} == {hours}


async def test_the_least_used_hours_of_the_day_show(store: Store) -> None:
    rows = await ask(store, what="usage", by="hour", since=START)

    used = {row["hour"]: row["gpu_hours"] for row in rows}
    assert [hour for hour, hours in used.items() if not hours] == [
        "06", "07", "14", "15", "18", "19", "20", "21", "22", "23",
    ]  # fmt: skip
    assert used["09"] == 4
    alone = await ask(store, what="usage", by="hour", user="bob", since=START)
    assert {row["hour"]: row["gpu_hours"] for row in alone} == {"16": 4, "17": 4}


@pytest.mark.parametrize("by", ["hour", "weekday_hour", "day", "user"])
@pytest.mark.parametrize("since", [START, START + timedelta(hours=10), NOW - timedelta(hours=9)])
async def test_a_persons_hours_on_one_node_are_as_exact_as_on_all(
    store: Store, by: str, since: datetime
) -> None:
    """All of them are on one node here."""
    asked: dict[str, Any] = {"what": "usage", "by": by, "since": since, "user": "alice"}

    of_node, of_all = await ask(store, node="n1", **asked), await ask(store, **asked)
    names = ("hour", "weekday", "day", "user", "gpu_hours", "shared_hours")
    told = [[{name: row.get(name) for name in names} for row in one] for one in (of_node, of_all)]
    assert told[0] == told[1]


async def test_a_persons_hours_are_told_of_one_gpu(store: Store) -> None:
    asked: dict[str, Any] = {"what": "usage", "by": "hour", "since": START, "user": "bob"}

    rows = await ask(store, gpu="GPU-2", **asked)
    assert {row["hour"]: row["gpu_hours"] for row in rows} == {"16": 2, "17": 2}
    assert (
        sum(row["energy_joules"] for row in rows)
        == sum(row["energy_joules"] for row in await ask(store, node="n1", **asked)) / 2
    )


async def test_sessions_come_newest_first_and_by_user(store: Store) -> None:
    rows, _ = await page(store, what="sessions", user="bob")

    assert [(row["gpu"], row["seconds"]) for row in rows] == [
        ("GPU-2", 7200), ("GPU-1", 7200), ("GPU-2", 7200), ("GPU-1", 7200),
    ]  # fmt: skip
    assert (rows[0]["entry"], rows[0]["container"]) == (None, None)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"what": "series"}, "name it"),
        ({"what": "series", "gpu": "G", "points": 0}, "points is 0"),
        ({"what": "usage", "limit": 0}, "limit is 0"),
        ({"what": "usage", "since": NOW, "until": START}, "since is not in the past"),
        (
            {"what": "usage", "since": NOW - timedelta(hours=1), "until": START},
            "since is not before until",
        ),
        ({"what": "usage", "cursor": "x"}, "cursor"),
        ({"what": "usage", "cursor": "WzEsMl0="}, "cursor"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_reason(
    wanted: dict[str, Any], why: str
) -> None:
    with pytest.raises(BadQuestion, match=why):
        questions.question_of(a_query(**wanted), NOW)
