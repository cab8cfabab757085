"""A scripted month whose GPU-hours, energy and sessions are known by arithmetic comes out exact.

No real time passes: the recorder's clock is a value. The month has restarts, repeated events, late
data (also after what it belongs to was sealed) and a clock that is set back.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gleaner.bus.messages import Event, HostSample, Sample, Samples, SampleUser
from services.recorder.schema import tables
from services.recorder.store import Store
from services.recorder.upkeep.retention import Retention
from tests.recorder.builders import an_event, numbers, samples_left, url

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 31
INTERVAL = timedelta(seconds=150)
PER_EVENT = 8
SET_BACK = START + timedelta(days=15, hours=13)
"""Then somebody sets the node's clock back, and what it has said last comes once more."""
AGAIN = (PER_EVENT * INTERVAL).total_seconds()
KEEP = Retention(
    samples=timedelta(days=2),
    events=timedelta(days=731),
    five_minutes=timedelta(days=5),
    hours=timedelta(days=10),
)
ALICE = SampleUser(user="alice", container="c0ffee", processes=2, memory_used_bytes=2**30)
BOB = SampleUser(user="bob", processes=1, memory_used_bytes=2**31)
FOLD = SampleUser(user="nobody", run="r1", entry="fold", processes=1, memory_used_bytes=2**20)
IS_OF_ONE = tables.sample_1d.c.device > 0
"""And not the sum of all."""
WATTS = {"idle": 50, "busy": 300, "held": 100, "ours": 250}


def at_work(at: datetime) -> tuple[str, tuple[SampleUser, ...], float]:
    """Each day the same: ours by night, alice 8 to 12, held to 14, alice and bob 16 to 18."""
    hour = (at - timedelta(microseconds=1)).hour
    if hour < 6:
        return "ours", (FOLD,), 90
    if 8 <= hour < 12:
        return "busy", (ALICE,), 60
    if 12 <= hour < 14:
        return "held", (ALICE,), 0
    if 16 <= hour < 18:
        return "busy", (ALICE, BOB), 80
    return "idle", (), 0


def a_sample(at: datetime, gpu: str = "GPU-1") -> Sample:
    state, users, load = at_work(at)
    return Sample(
        gpu=gpu,
        index=0,
        state=state,
        at=at,
        seconds=INTERVAL.total_seconds(),
        utilization_percent=load,
        memory_used_bytes=sum(user.memory_used_bytes or 0 for user in users),
        power_watts=1.0,
        energy_used_joules=WATTS[state] * INTERVAL.total_seconds(),
        users=users,
    )


def a_host_sample(at: datetime) -> HostSample:
    """The host works as its GPU does; nobody can tell how full its disks are before noon."""
    load = at_work(at)[2]
    return HostSample(
        at=at,
        seconds=INTERVAL.total_seconds(),
        cpu_percent=load / 4,
        load_1_minute=load / 10,
        memory_used_bytes=2**30 if load else 2**29,
        network_received_bytes_per_second=1000 * load,
        network_sent_bytes_per_second=0,
        disk_used_percent=None if at.hour < 12 else 61.5,
    )


def event(number: int, samples: Iterable[Sample], stream: str = "s1") -> Event:
    """A minute of some GPUs, and of their host."""
    found = tuple(samples)
    hosts = tuple(a_host_sample(at) for at in sorted({one.at for one in found}))
    data = Samples(samples=found, host=hosts)
    return an_event(
        number,
        kind="samples",
        stream=stream,
        data=data.model_dump(mode="json"),
        at=max(one.at for one in data.samples),
    )


def month() -> Iterator[Event]:
    number, at, is_set_back = 1, START, False
    while at < START + timedelta(days=DAYS):
        yield event(number, [a_sample(at + INTERVAL * (i + 1)) for i in range(PER_EVENT)])
        number, at = number + 1, at + PER_EVENT * INTERVAL
        if at == SET_BACK and not is_set_back:
            # Not to the microsecond the same instants, else it would be the same samples.
            again = at - PER_EVENT * INTERVAL - timedelta(microseconds=7)
            yield event(number, [a_sample(again + INTERVAL * (i + 1)) for i in range(PER_EVENT)])
            number, is_set_back = number + 1, True


async def record(store: Store, events: Iterable[Event], now: datetime) -> None:
    await store.write(numbers(*events, now=now), now=now)


async def settle(store: Store, now: datetime) -> None:
    while await store.roll_up(now):
        pass


async def tidy_up(store: Store, now: datetime) -> None:
    while await store.seal(KEEP.sealed(now)):
        pass
    for statement in KEEP.deletions(now):
        while await store.change(statement):
            pass


async def rows(store: Store, table: Any, *where: Any) -> list[dict[str, Any]]:
    found = await store.read(tables.named(table).where(*where))
    return [row._asdict() for row in found]


def total(found: list[dict[str, Any]], name: str) -> float:
    return float(sum(row[name] for row in found))


async def play(store_url: str, *, seed: int) -> None:
    """Record the month day by day: out of order, some twice, some days late, with restarts."""
    chance = random.Random(seed)
    late: list[Event] = []
    repeated: list[Event] = []
    by_day: dict[int, list[Event]] = {}
    for one in month():
        by_day.setdefault((one.at - INTERVAL - START).days, []).append(one)
    for day, events in by_day.items():
        now = START + timedelta(days=day + 1, minutes=10)
        today = [one for one in events if chance.random() > 0.1]
        # A node that was cut off for the first week sends that part at the end.
        late += [one for one in events if one not in today]
        chance.shuffle(today)
        repeated = chance.sample(today, 20)
        async with Store(store_url) as store:
            await record(store, today, now)
            for _ in range(chance.randrange(3)):
                await store.roll_up(now)
        async with Store(store_url) as store:
            # Sent again because the answer got lost, while half of the day is rolled up.
            await record(store, repeated, now)
            await settle(store, now)
            await tidy_up(store, now)
            if day % 4 == 3:
                await record(store, late[: len(late) // 2], now)
                late = late[len(late) // 2 :]
    end = START + timedelta(days=DAYS + 1)
    async with Store(store_url) as store:
        await record(store, late, end)
        await store.roll_up(end)
    async with Store(store_url) as store:
        await settle(store, end)
        await tidy_up(store, end)
        await settle(store, end)


@pytest.mark.real
@pytest.mark.timeout(300)
async def test_a_month_comes_out_exact(tmp_path: Path) -> None:
    await play(url(tmp_path), seed=1)

    async with Store(url(tmp_path)) as store:
        days = sorted(await rows(store, tables.sample_1d, IS_OF_ONE), key=lambda row: row["start"])
        assert [row["start"] for row in days] == [START + timedelta(days=n) for n in range(DAYS)]
        hours = {"ours": 6, "busy": 6, "held": 2, "idle": 10, "dirty": 0, "unknown": 0}
        for row in days:
            again = AGAIN if row["start"] <= SET_BACK < row["start"] + timedelta(days=1) else 0
            row["held_seconds"] -= again
            assert {state: row[f"{state}_seconds"] / 3600 for state in hours} == hours
            assert row["samples"] == 24 * 24 + (PER_EVENT if again else 0)
            row["energy_joules"] -= again * WATTS["held"]
            assert row["energy_joules"] == 3600 * (6 * 250 + 6 * 300 + 2 * 100 + 10 * 50)
            assert row["utilization_percent_sum"] / 3600 == 6 * 90 + 4 * 60 + 2 * 80
            assert (row["utilization_percent_min"], row["utilization_percent_max"]) == (0, 90)

        hosts = sorted(await rows(store, tables.host_1d), key=lambda row: row["start"])
        assert [row["start"] for row in hosts] == [row["start"] for row in days]
        for row in hosts:
            again = AGAIN if row["start"] <= SET_BACK < row["start"] + timedelta(days=1) else 0
            samples = 24 * 24 + (PER_EVENT if again else 0)
            assert (row["node"], row["samples"]) == ("n1", samples)
            assert row["seconds"] == 24 * 3600 + again
            assert row["cpu_percent_sum"] / 900 == 6 * 90 + 4 * 60 + 2 * 80
            assert (row["cpu_percent_min"], row["cpu_percent_max"]) == (0, 22.5)
            row["memory_used_bytes_sum"] -= again * 2**29
            assert row["memory_used_bytes_sum"] / 3600 == 12 * 2**30 + 12 * 2**29
            received = row["network_received_bytes_per_second_sum"]
            assert received == 3600 * 1000 * (6 * 90 + 4 * 60 + 2 * 80)
            # A sample stands for the time that ends at it.
            assert row["disk_used_percent_seconds"] == 12 * 3600 + again
            assert row["disk_used_percent_sum"] == 61.5 * (12 * 3600 + again)
        assert len(await rows(store, tables.host_5m)) == len(
            await rows(store, tables.sample_5m, tables.sample_5m.c.device > 0)
        )

        sessions = await rows(store, tables.session)
        of = {name: [one for one in sessions if one["user"] == name] for name in ("alice", "bob")}
        ours = [one for one in sessions if one["entry"]]
        assert (len(of["alice"]), len(of["bob"]), len(ours)) == (2 * DAYS, DAYS, DAYS)
        assert len(sessions) == 4 * DAYS
        first, second = sorted(of["alice"], key=lambda one: one["begin"])[:2]
        assert (first["begin"], first["end"]) == (
            START + timedelta(hours=8),
            START + timedelta(hours=14),
        )
        assert (first["busy_seconds"], first["held_seconds"]) == (4 * 3600, 2 * 3600)
        assert (first["container"], first["utilization_max"]) == ("c0ffee", 60)
        assert first["utilization_sum"] == 4 * 3600 * 60
        assert first["memory_byte_seconds"] == 6 * 3600 * 2**30
        assert first["energy_joules"] == 3600 * (4 * 300 + 2 * 100)
        assert (second["shared_seconds"], second["energy_joules"]) == (7200, 3600 * 300)
        assert {one["shared_seconds"] for one in of["bob"]} == {7200}
        assert {(one["entry"], one["user"], one["seconds"]) for one in ours} == {
            ("fold", "", 6 * 3600)
        }

        used = await rows(store, tables.use_1d, tables.use_1d.c.device > 0)
        mine = [one for one in used if one["user"] == "alice"]
        assert total(mine, "seconds") == DAYS * 8 * 3600 + AGAIN
        assert total(used, "seconds") == DAYS * 16 * 3600 + AGAIN
        assert total(of["alice"], "held_seconds") == DAYS * 2 * 3600 + AGAIN
        # Everything below has gone by its age, and nothing waits.
        assert await rows(store, tables.dirty) == []
        oldest = START + timedelta(days=DAYS - 3)
        assert all(one["at"] > oldest for one in await samples_left(store))


async def test_a_clock_that_is_set_back_counts_the_time_that_really_passed(tmp_path: Path) -> None:
    """From 9:30 back to 8:30: that hour is there twice, and alice has used both."""
    first = START + timedelta(hours=8)
    before = [a_sample(first + INTERVAL * place) for place in range(1, 37)]
    # Not to the microsecond the same instants, else it would be the same samples.
    shift = timedelta(minutes=30, microseconds=-7)
    after = [a_sample(first + shift + INTERVAL * place) for place in range(1, 25)]
    now = START + timedelta(days=1)

    async with Store(url(tmp_path)) as store:
        await record(store, [event(1, before)], now)
        await settle(store, now)
        await record(store, [event(2, after)], now)
        await settle(store, now)

        (day,) = await rows(store, tables.sample_1d, IS_OF_ONE)
        assert day["busy_seconds"] == 150 * 60
        assert day["energy_joules"] == 150 * 60 * 300
        (session,) = await rows(store, tables.session)
        assert session["seconds"] == 150 * 60
        assert session["end"] == first + timedelta(hours=1, minutes=30)


async def test_a_pause_of_more_than_two_intervals_ends_a_session(tmp_path: Path) -> None:
    first = START + timedelta(hours=8)
    places = [*range(1, 10), *range(12, 20), *range(23, 30)]
    now = START + timedelta(days=1)
    async with Store(url(tmp_path)) as store:
        await record(store, [event(1, [a_sample(first + INTERVAL * one) for one in places])], now)
        await settle(store, now)

        found = [
            ((one["begin"] - first) // INTERVAL, (one["end"] - first) // INTERVAL)
            for one in await rows(store, tables.session)
        ]
        assert sorted(found) == [(0, 19), (22, 29)]

        # What was missing comes late, and it was one session.
        await record(
            store, [event(2, [a_sample(first + INTERVAL * one) for one in (20, 21, 22)])], now
        )
        await settle(store, now)
        (session,) = await rows(store, tables.session)
        assert session["seconds"] == 150 * (len(places) + 3)
