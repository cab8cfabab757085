"""What is told of groups, models, hours of the week, quotas, latencies and local days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gleaner.bus.messages import GpuInventory, Inventory, Sample, SampleUser
from services.recorder.queries import answers
from services.recorder.queries.groups import Groups
from services.recorder.queries.history import BadQuestion
from services.recorder.queries.questions import Known
from services.recorder.store import Store
from services.recorder.upkeep.retention import Retention
from services.recorder.values.local_time import LocalTime
from tests.recorder.builders import a_query, a_run, numbers, url
from tests.recorder.test_month import INTERVAL, START, a_sample, event, record, settle
from tests.recorder.two_days import NOW, fill

KEEP = Retention(samples=timedelta(days=30), events=timedelta(days=731))


async def ask(
    store: Store, more: dict[str, Any] | None = None, now: datetime = NOW, **wanted: Any
) -> list[dict[str, Any]]:
    known = Known(names=store.names, local=store.local, retention=KEEP, **more or {})
    answer = await answers.answer(store.read, a_query(limit=1000, **wanted), known, now)
    return list(answer.rows)


async def test_groups_are_those_of_the_file_and_unknown_ones_are_said_so(
    store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "groups"
    file.write_text("# who is where\nalice: vision\ncarol: speech\n")

    rows = await ask(store, {"groups": Groups(file)}, what="usage", by="group", since=START)

    assert [(row["group"], row["entry"], row["gpu_hours"]) for row in rows] == [
        ("vision", None, 32),
        (None, "fold", 24),
        (None, None, 8),
    ]


async def test_all_accounts_of_a_person_are_in_the_persons_group(
    store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "groups"
    file.write_text("alice: vision\n")
    more = {"groups": Groups(file), "aliases": {"bob": "alice"}}

    rows = await ask(store, more, what="usage", by="group", since=START)

    assert [(row["group"], row["gpu_hours"]) for row in rows] == [("vision", 40), (None, 24)]


async def test_without_a_file_it_is_the_primary_group_of_this_machine() -> None:
    groups = Groups()
    await groups.learn(["root", "no-such-user"])

    assert (groups.of("root"), groups.of("no-such-user")) == ("root", None)


async def test_a_groups_file_that_cannot_be_read_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    groups = Groups(tmp_path / "nothing")
    await groups.learn(["alice"])

    assert groups.of("alice") is None
    assert "accounting.groups_file" in caplog.text


async def test_models_are_those_of_the_inventory(tmp_path: Path) -> None:
    inventory = Inventory(
        node="n1",
        host="n1",
        boot_id="b",
        agent_version="0",
        source="nvml",
        gpus=(
            GpuInventory(gpu="GPU-1", index=0, name="A100"),
            GpuInventory(gpu="GPU-2", index=1, name=None),
        ),
        notices_opens_by="check",
        notices_people_by="nothing",
        limitations=(),
        at=NOW,
    )
    async with Store(url(tmp_path)) as store:
        await fill(store, days=1)
        await store.hear(inventory, NOW)

        rows = await ask(store, what="usage", by="model", since=START)
        assert {row["model"]: row["gpu_hours"] for row in rows} == {"A100": 14, None: 14}
    async with Store(url(tmp_path)) as again:
        assert {one.model for one in again.names.device.values()} == {"A100", None}


async def test_hours_of_the_week_have_the_share_that_was_used(store: Store) -> None:
    rows = await ask(store, what="usage", by="weekday_hour", since=START)

    shares = {(row["weekday"], row["hour"]): row["share_used"] for row in rows}
    # The first of March 2026 is a Sunday.
    assert len(rows) == 48
    assert {weekday for weekday, _ in shares} == {7, 1}
    assert (shares[7, "09"], shares[1, "20"]) == (1, 0)


async def test_unknown_hours_are_in_no_share(tmp_path: Path) -> None:
    states = ["busy", "idle", "unknown", "lost"]
    samples = [
        a_sample(START + INTERVAL * place).model_copy(update={"state": state})
        for place, state in enumerate(states, start=1)
    ]
    async with Store(url(tmp_path)) as store:
        await record(store, [event(1, samples)], NOW)
        await settle(store, NOW)

        (row,) = await ask(store, what="usage", by="day", since=START)
        assert row["share_used"] == 0.5


async def test_aliases_are_one_user(store: Store) -> None:
    more = {"aliases": {"bob": "alice"}}

    rows = await ask(store, more, what="usage", since=START)
    assert [(row["user"], row["gpu_hours"]) for row in rows] == [("alice", 40), (None, 24)]
    for user in ("alice", "bob"):
        (row,) = await ask(store, more, what="usage", by="month", user=user, since=START)
        assert row["gpu_hours"] == 40
    sessions = await ask(store, more, what="sessions", user="bob")
    assert {row["user"] for row in sessions} == {"alice"}
    assert len(sessions) == 12


async def test_quotas_say_who_stands_where(store: Store) -> None:
    quotas = {"alice": 64.0, "*": 4.0, "carol": 10.0}

    rows = await ask(store, {"quotas": quotas}, what="quotas")

    assert rows == [
        {"user": "bob", "month": "2026-03", "gpu_hours": 8, "quota_gpu_hours": 4, "percent": 200},
        {
            "user": "alice",
            "month": "2026-03",
            "gpu_hours": 32,
            "quota_gpu_hours": 64,
            "percent": 50,
        },
        {"user": "carol", "month": "2026-03", "gpu_hours": 0, "quota_gpu_hours": 10, "percent": 0},
    ]
    (row,) = await ask(store, what="quotas", user="bob")
    assert (row["quota_gpu_hours"], row["percent"]) == (None, None)


async def test_latencies_are_told_by_stage(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        for number in range(1, 101):
            stages = {
                "noticed_to_term": number / 1000,
                "term_to_exit": float(number),
                "noticed_to_clear": number + 0.5,
            }
            event = a_run(number, "evicted", number, run=f"r{number}", stages=stages)
            await store.write(numbers(event), now=NOW)

        told = await ask(store, None, datetime(2026, 11, 22, tzinfo=UTC), what="latencies")

    stages_told = {row["stage"]: row for row in told}
    assert stages_told["noticed_to_term"] == {
        "stage": "noticed_to_term", "count": 100, "p50_seconds": 0.05, "p90_seconds": 0.09,
        "p99_seconds": 0.099, "max_seconds": 0.1,
    }  # fmt: skip
    assert stages_told["term_to_exit"]["p90_seconds"] == 90
    assert stages_told["exit_to_clear"]["count"] == 0
    assert (told[-1]["stage"], told[-1]["max_seconds"]) == ("noticed_to_clear", 100.5)
    assert stages_told["exit_to_clear"]["p50_seconds"] is None


async def test_runs_are_found_by_how_they_ended(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        for number, state in enumerate(("evicted", "failed", "failed"), start=1):
            await store.write(numbers(a_run(number, state, number, run=f"r{number}")), now=NOW)

        failed = await ask(store, what="runs", kind="failed")
        assert {row["run"] for row in failed} == {"r2", "r3"}
        with pytest.raises(BadQuestion, match="no run is 'tired'; kind is one of starting, "):
            await ask(store, what="runs", kind="tired")


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [("Europe/Berlin", (2026, 3, 29), 23), ("Europe/Berlin", (2026, 10, 25), 25),
     ("Asia/Kolkata", (2026, 3, 29), 24)],
)  # fmt: skip
async def test_local_days_have_all_their_hours(
    tmp_path: Path, zone: str, day: tuple[int, int, int], hours: int
) -> None:
    """A GPU that is busy all the time is busy as many hours as the day has."""
    begin, quarter = datetime(*day, tzinfo=UTC) - timedelta(days=1), timedelta(minutes=15)
    who = SampleUser(user="alice", processes=1)
    every = [
        Sample(
            gpu="G", index=0, state="busy", at=begin + quarter * place, seconds=900, users=(who,)
        )
        for place in range(1, 3 * 96 + 1)
    ]
    async with Store(url(tmp_path), zone) as store:
        await record(store, [event(1, every)], NOW)
        now = begin + timedelta(days=4)
        await settle(store, now)

        name = f"{day[0]}-{day[1]:02d}-{day[2]:02d}"
        since = begin - timedelta(days=1)
        for user in (None, "alice"):
            rows = await ask(store, None, now, what="usage", by="day", since=since, user=user)
            assert {row["day"]: row["gpu_hours"] for row in rows}[name] == hours
        clock = await ask(store, None, now, what="usage", by="hour", since=since)
        assert sum(row["gpu_hours"] for row in clock) == 72
        twice = {row["hour"]: row["gpu_hours"] for row in clock}["02"]
        assert twice == {23: 2, 24: 3, 25: 4}[hours]
        points = await ask(store, None, now, what="series", gpu="G", points=6, since=since)
        local = LocalTime(zones=store.local.zones)
        lengths = {
            local.at(datetime.fromisoformat(one["start"])).day: one["seconds"] for one in points
        }
        assert lengths[day[2]] == hours * 3600


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"what": "usage", "node": "nowhere"}, "no node named 'nowhere' was ever recorded$"),
        ({"what": "series", "gpu": "G9"}, "no GPU 'G9' was ever recorded$"),
        ({"what": "usage", "user": "zoe"}, "no user named 'zoe' was ever recorded$"),
        ({"what": "usage", "since": NOW + timedelta(days=9), "until": NOW + timedelta(days=10)},
         "since is not in the past"),
        ({"what": "quotas", "by": "day"}, "by does not go with quotas"),
        ({"what": "events", "since": NOW, "until": START}, "since is not before until"),
    ],
)  # fmt: skip
async def test_what_cannot_be_known_is_refused_by_name(
    store: Store, wanted: dict[str, Any], why: str
) -> None:
    with pytest.raises(BadQuestion, match=why):
        await ask(store, **wanted)


async def test_ten_years_are_answered_with_what_there_is(store: Store) -> None:
    since = START - timedelta(days=3650)

    for by in ("user", "node", "day", "hour", "month"):
        rows = await ask(store, what="usage", by=by, since=since)
        assert sum(row["gpu_hours"] for row in rows) == (64 if by == "user" else 56)
    assert len(await ask(store, what="series", node="n1", since=since)) == 1
