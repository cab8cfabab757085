"""A database of the layout before comes over with all that was in it, and is counted on."""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from services.recorder.schema import tables
from services.recorder.schema.migrate import upgrade
from services.recorder.store import Store
from services.recorder.upkeep.moving import bring_up_to_date
from tests.builders import NOW
from tests.recorder.builders import hours_of, samples_left, url
from tests.recorder.test_answers import ask
from tests.recorder.test_month import (
    INTERVAL,
    START,
    a_sample,
    at_work,
    event,
    record,
    rows,
    settle,
)
from tests.recorder.test_search import ask as search_for

pytestmark = pytest.mark.real

_SLOT = 300_000_000
_HOUR = 12 * _SLOT
_DAY = 24 * _HOUR
_USED = (
    "seconds", "busy_seconds", "held_seconds", "shared_seconds", "utilization_sum",
    "utilization_seconds", "memory_byte_seconds", "energy_joules",
)  # fmt: skip


def micro(at: Any) -> int:
    return tables.to_microseconds(at)


def old_database(path: Path) -> sqlite3.Connection:
    """Make the layout before, empty."""
    path.parent.mkdir(parents=True)
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        upgrade(connection, "0002")
    engine.dispose()
    return sqlite3.connect(path)


def insert(database: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join(f":{name}" for name in row)
    database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", row)


def rolled(start: int, seconds: float, *, sealed: bool) -> dict[str, Any]:
    gauges = ("memory_utilization_percent", "temperature_celsius", "sm_clock_mhz", "fan_percent")
    row: dict[str, Any] = {"node": "n1", "gpu": "GPU-1", "start": start, "is_sealed": sealed}
    row |= {"samples": int(seconds // 150), "seconds": seconds, "busy_seconds": seconds}
    row |= {f"{state}_seconds": 0 for state in ("idle", "held", "ours", "dirty", "lost", "unknown")}
    row |= {"energy_joules": seconds * 300.25, "energy_seconds": seconds}
    for gauge, value in (
        ("utilization_percent", 60), ("power_watts", 300.5), ("memory_used_bytes", 2**30),
    ):  # fmt: skip
        row |= {f"{gauge}_sum": value * seconds, f"{gauge}_seconds": seconds}
        row |= {f"{gauge}_min": value, f"{gauge}_max": value}
    for gauge in gauges:
        row |= {f"{gauge}_sum": 0, f"{gauge}_seconds": 0}
    return row


def used(seconds: float) -> dict[str, Any]:
    return dict.fromkeys(_USED, seconds) | {"utilization_max": 60, "memory_max_bytes": 2**30}


WHO = {"user": "alice", "entry": "", "container": "c0ffee"}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Half an hour of a busy GPU at 8 o'clock: 20 minutes counted, the first 10 sealed."""
    path = tmp_path / "recorder" / "gleaner.sqlite"
    database = old_database(path)
    eight = micro(START + timedelta(hours=8))
    insert(
        database,
        "stream",
        {"node": "n1", "stream": "s1", "watermark": 7, "gaps": 0, "updated_at": eight},
    )
    place = {"node": "n1", "stream": "s1", "boot_id": "boot", "received_at": eight, "at": eight}
    insert(
        database,
        "event",
        place
        | {"sequence": 6, "kind": "gpu", "gpu": "GPU-1", "data": json.dumps({"gpu": "GPU-1"})},
    )
    insert(
        database,
        "event",
        place | {"sequence": 7, "kind": "samples", "gpu": None, "data": "{}"},
    )
    insert(
        database,
        "run",
        {
            "node": "n1", "run": "r1", "first_at": eight, "at": eight, "entry": "fold",
            "gpus": '["GPU-1"]', "state": "failed", "is_final": 1, "reason": "it failed",
            "simulated": 0,
        },
    )  # fmt: skip
    for number in range(4):
        start = eight + number * _SLOT
        insert(database, "sample_5m", rolled(start, 300, sealed=number < 2))
        insert(
            database,
            "stretch",
            {"node": "n1", "gpu": "GPU-1", "start": start, "begin": start, "end": start + _SLOT}
            | {"interval": 150} | WHO | used(300),
        )  # fmt: skip
    # The hour has not heard of the last ten minutes, nor has the day.
    insert(database, "sample_1h", rolled(eight, 600, sealed=False))
    insert(database, "sample_1d", rolled(eight // _DAY * _DAY, 600, sealed=False))
    insert(database, "dirty", {"tier": "1h", "start": eight, "node": "n1", "gpu": "GPU-1"})
    for table, start in (("use_1h", eight), ("use_1d", eight // _DAY * _DAY)):
        insert(database, table, {"node": "n1", "gpu": "GPU-1", "start": start} | WHO | used(1200))
    insert(
        database,
        "session",
        {"node": "n1", "gpu": "GPU-1", "begin": eight, "end": eight + 4 * _SLOT, "interval": 150}
        | WHO | used(1200),
    )  # fmt: skip
    for number in range(5, 13):
        # Of the last two of six five minutes nothing was counted yet.
        at = START + timedelta(hours=8) + INTERVAL * number
        state, users, load = at_work(at)
        insert(
            database,
            "gpu_sample",
            {
                "node": "n1", "gpu": "GPU-1", "at": micro(at), "seconds": 150, "state": state,
                "utilization_percent": load, "energy_used_joules": 150 * 300.25,
                "power_watts": 300.5, "memory_used_bytes": 2**30,
                "users": json.dumps([one.model_dump() for one in users]),
            },
        )  # fmt: skip
    for number in (4, 5):
        insert(
            database,
            "dirty",
            {"tier": "5m", "start": eight + number * _SLOT, "node": "n1", "gpu": "GPU-1"},
        )
    database.commit()
    database.close()
    return path


async def test_nothing_is_lost_or_counted_twice(old: Path, tmp_path: Path) -> None:
    now = START + timedelta(days=1)
    async with Store(url(tmp_path), "Europe/Berlin") as store:
        assert store.recorded("n1") == {"s1": 7}
        (kept,) = await rows(store, tables.event)
        assert (kept["node"], kept["stream"], kept["gpu"]) == ("n1", "s1", "GPU-1")
        assert json.loads(kept["data"]) == {"gpu": "GPU-1"}
        (run,) = await rows(store, tables.run)
        assert (run["node"], run["state"]) == ("n1", "failed")
        for device in (tables.EVERY, 1):
            (hour,) = (await hours_of(store, device)).values()
            assert hour["busy_seconds"] == 1200
        for table in (tables.sample_1d, tables.sample_1mo):
            of_all, of_one = sorted(await rows(store, table), key=lambda one: one["gpu"] or "")
            assert of_all["busy_seconds"] == of_one["busy_seconds"] == 1200
        assert len(await samples_left(store)) == 8

        await settle(store, now)

        (day,) = await rows(store, tables.sample_1d, tables.sample_1d.c.device > 0)
        # Days that were begun by UTC stay so.
        assert day["start"] == START
        assert (day["busy_seconds"], day["samples"]) == (1800, 12)
        assert day["energy_joules"] == 1800 * 300.25
        assert (day["power_watts_sum"], day["power_watts_max"]) == (1800 * 300.5, 300.5)
        assert (day["utilization_percent_seconds"], day["fan_percent_seconds"]) == (1800, 0)
        (session,) = await rows(store, tables.session)
        assert (session["user"], session["container"]) == ("alice", "c0ffee")
        assert (session["seconds"], session["end"]) == (1800, START + timedelta(hours=8.5))
        (told,) = await ask(store, None, now, what="usage", since=START)
        assert (told["user"], told["gpu_hours"]) == ("alice", 0.5)

        # What comes late for the sealed part is all new.
        await record(store, [event(9, [a_sample(START + timedelta(hours=8, minutes=5))])], now)
        await settle(store, now)
        (day,) = await rows(store, tables.sample_1d, tables.sample_1d.c.device > 0)
        assert day["busy_seconds"] == 1950


async def test_events_of_before_are_found_when_they_are_indexed(old: Path, tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        page = await search_for(store, kind="gpu")
        assert (page.rows, page.looked_back_to) == ((), NOW)

    await bring_up_to_date(f"sqlite:///{old}")

    async with Store(url(tmp_path)) as store:
        page = await search_for(store, kind="gpu")
        assert [row["sequence"] for row in page.rows] == [6]
        assert page.looked_back_to is None


async def test_an_empty_database_comes_over(tmp_path: Path) -> None:
    old_database(tmp_path / "recorder" / "gleaner.sqlite").close()

    async with Store(url(tmp_path), "Asia/Kolkata") as store:
        assert [zone for _, zone in store.local.zones] == ["Asia/Kolkata"]
