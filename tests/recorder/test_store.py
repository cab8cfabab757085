"""The database itself: layout, runs, samples, retention, damage, a lock, PostgreSQL's SQL."""

from __future__ import annotations

import json
import logging
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, select, text

from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.messages import Event, Recorded, Sample, Samples
from gleaner.runtime import Fatal
from services.recorder import service
from services.recorder.intake.batch import DeadLetter
from services.recorder.queries import sample_pages
from services.recorder.schema import tables
from services.recorder.storage.condition import Condition
from services.recorder.store import Store
from tests.builders import NOW, until
from tests.recorder.builders import (
    KEEP,
    a_query,
    a_run,
    an_event,
    count,
    numbers,
    recording,
    samples_left,
    url,
)

pytestmark = pytest.mark.real


async def the_run(store: Store) -> Any:
    (row,) = await store.read(select(tables.run))
    return row


async def test_the_migrations_make_the_tables_that_are_written_down(tmp_path: Path) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, tables.metadata))

    async with Store(url(tmp_path)) as store, store._database.reading() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_database_that_is_made_says_one_line_and_one_that_is_there_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Another one may have been made in this process; the library's own level must not decide.
    logging.getLogger("alembic").setLevel(logging.NOTSET)
    with caplog.at_level(logging.INFO):
        async with Store(url(tmp_path, with_tables=False)) as store:
            name = store.name
        async with Store(url(tmp_path, with_tables=False)):
            pass

    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{name}: a new database, layout ")


async def test_a_database_of_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        await store.change(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(Fatal, match=r" was written by a newer version .*9999") as refused:
        await Store(url(tmp_path)).open()

    assert str(refused.value).startswith(store.name)


async def test_what_was_recorded_is_known_after_a_restart(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        await store.write(numbers(an_event(1), an_event(2), an_event(4)), now=NOW)

    async with Store(url(tmp_path)) as store:
        assert store.recorded("n1") == {"s1": 2}
        await store.write(numbers(an_event(3)), now=NOW)
        assert store.recorded("n1") == {"s1": 4}


async def test_only_the_streams_heard_last_are_named(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        for number in range(150):
            await store.write(numbers(an_event(1, stream=f"s{number}")), now=NOW)
        await store.write(numbers(an_event(2, stream="s0")), now=NOW)

        assert list(store.recorded("n1")) == [*(f"s{number}" for number in range(51, 150)), "s0"]


async def test_a_run_is_one_row_with_its_end_cause_and_stages(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        await store.write(numbers(a_run(1, "starting")), now=NOW)
        await store.write(
            numbers(
                a_run(2, "running", 1, started_at=NOW.isoformat()),
                a_run(
                    3,
                    "evicted",
                    9,
                    started_at=NOW.isoformat(),
                    exited_at=(NOW + timedelta(seconds=8)).isoformat(),
                    exit_signal=15,
                    cause={"kind": "person", "text": "user1 is active at pts/3"},
                    stages={"noticed_to_term": 0.002},
                ),
            ),
            now=NOW,
        )

        row = await the_run(store)
        assert (row.entry, row.state, row.is_final, json.loads(row.gpus)) == (
            "fold",
            "evicted",
            True,
            ["GPU-1"],
        )
        assert (row.first_at, row.ended_at) == (NOW, NOW + timedelta(seconds=8))
        assert (row.cause_kind, row.cause_text) == ("person", "user1 is active at pts/3")
        assert (row.exit_signal, row.exit_code) == (15, None)
        assert row.noticed_to_term_seconds == 0.002


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((a_run(1, "evicted", 5), a_run(2, "running", 9)), "evicted"),
        ((a_run(1, "running", 5), a_run(2, "starting", 1)), "running"),
        # The clock was set back in between.
        ((a_run(1, "running", 500), a_run(2, "evicted", 1)), "evicted"),
        ((a_run(1, "evicted", 5), a_run(2, "failed", 1)), "evicted"),
    ],
)
async def test_a_run_never_goes_back(tmp_path: Path, events: list[Event], state: str) -> None:
    async with Store(url(tmp_path)) as store:
        for event in events:
            await store.write(numbers(event), now=NOW)

        assert (await the_run(store)).state == state


async def test_samples_are_told_once_each(tmp_path: Path) -> None:
    sample = Sample(
        gpu="GPU-1",
        index=0,
        state="busy",
        at=NOW,
        seconds=10,
        utilization_percent=37.5,
        memory_used_bytes=2**40,
    )
    data = Samples(samples=(sample,)).model_dump(mode="json")
    async with Store(url(tmp_path)) as store:
        # The same minute under another number, as a restart in between might make it.
        await store.write(numbers(an_event(1, kind="samples", data=data)), now=NOW)
        await store.write(numbers(an_event(2, kind="samples", data=data)), now=NOW)

        answer = await sample_pages.answer(store.read, a_query(what="samples"), store.names)
        (row,) = answer.rows
        assert (row["node"], row["gpu"], row["state"]) == ("n1", "GPU-1", "busy")
        assert (row["at"], row["seconds"]) == (NOW.isoformat().replace("+00:00", "Z"), 10)
        assert (row["utilization_percent"], row["memory_used_bytes"]) == (37.5, 2**40)
        assert row["power_watts"] is None
        assert await count(store, tables.event) == 0


async def test_old_rows_go_in_small_batches_and_young_ones_stay(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    old, young = now - timedelta(days=3), now - timedelta(days=1)
    sample = {"index": 0, "state": "idle", "seconds": 1}
    async with Store(url(tmp_path)) as store:
        for start in (0, 1200):
            at = old if start == 0 else young
            samples: list[Any] = [
                sample | {"gpu": "G", "at": (at + timedelta(seconds=number)).isoformat()}
                for number in range(1200)
            ]
            data: Any = {"samples": samples}
            await store.write(
                numbers(
                    an_event(1 + start, kind="samples", data=data, at=at),
                    an_event(2 + start, at=at),
                ),
                now=now,
            )
        older = now - timedelta(days=800)
        await store.write(numbers(*(an_event(9000 + i, at=older) for i in range(1200))), now=now)

        while await store.roll_up(now):
            pass
        while await store.seal(KEEP.sealed(now)):
            pass
        most = 0
        for statement in KEEP.deletions(now):
            while gone := await store.change(statement):
                most = max(most, gone)

        assert most == 1000
        assert len(await samples_left(store)) == 1200
        kept = await store.read(select(tables.event.c.sequence))
        assert sorted(row.sequence for row in kept) == [2, 1202]


@pytest.mark.sqlite
async def test_a_damaged_file_is_kept_aside_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "recorder"
    place.mkdir()
    (place / "gleaner.sqlite").write_bytes(b"rubbish" * 1000)

    async with Store(url(tmp_path)) as store:
        await store.write(numbers(an_event(1)), now=NOW)
        assert await count(store, tables.event) == 1

    (aside,) = place.glob("gleaner.sqlite.damaged-*")
    assert aside.read_bytes() == b"rubbish" * 1000
    assert caplog.records[0].levelno == logging.ERROR
    assert aside.name in caplog.text
    assert list(store.kept_aside()) == [aside.name]
    assert abs(store.kept_aside()[aside.name] - datetime.now(UTC)) < timedelta(minutes=1)


async def test_the_condition_says_since_when_there_is_what_and_what_never_came(
    tmp_path: Path,
) -> None:
    async with Store(url(tmp_path)) as store:
        assert (await store.condition()) == Condition(lost_events=0, unreadable_messages=0)

        letter = DeadLetter(topic="t", payload=b"x", reason="no JSON", received_at=NOW)
        later = an_event(9, oldest=7, at=NOW + timedelta(hours=1))
        await store.write(numbers(an_event(1, at=NOW), later), [letter], now=NOW)
        found = await store.condition()

    assert found.oldest == {"events": NOW}
    # From 2 to 6; 7 and 8 may still come.
    assert (found.lost_events, found.unreadable_messages) == (5, 1)


@pytest.mark.sqlite
async def test_a_locked_database_is_named_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "RETRY_SECONDS", (0.02, 0.02))
    monkeypatch.setattr("services.recorder.storage.connect.LOCKED_SECONDS", 0.02)
    broker, watermarks = MemoryBroker(), list[dict[str, int]]()
    async with Store(url(tmp_path)) as store, MemoryBus(broker, "node", "n1") as node:
        node.subscribe(Recorded, lambda one: watermarks.append(one.message.streams))  # type: ignore[union-attr]
        bus = MemoryBus(broker, "recorder", "main")
        async with recording(bus, store), bus:
            # Somebody's shell in the middle of a change.
            locker = sqlite3.connect(store.name, isolation_level=None)
            locker.execute("BEGIN IMMEDIATE")
            for number in range(1, 51):
                node.publish(an_event(number))
            await until(lambda: "nothing is recorded until" in caplog.text)
            assert store.name in caplog.text
            assert watermarks == []

            locker.execute("ROLLBACK")
            locker.close()

            await until(lambda: {"s1": 50} in watermarks)
            assert "can be written again" in caplog.text
            assert await count(store, tables.event) == 50


@pytest.mark.sqlite
async def test_a_file_that_breaks_while_in_use_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "WATERMARK_SECONDS", 0.0)
    broker, watermarks = MemoryBroker(), list[dict[str, int]]()
    async with Store(url(tmp_path)) as store:
        await store.write(numbers(*(an_event(number) for number in range(1, 400))), now=NOW)
    path = Path(store.name)
    with path.open("r+b") as file:
        # The pages of the tables, not the header: noticed only when they are used.
        file.seek(4096 * 4)
        file.write(b"\xa5" * (path.stat().st_size - 4096 * 4))
    async with Store(url(tmp_path)) as store, MemoryBus(broker, "node", "n1") as node:
        node.subscribe(Recorded, lambda one: watermarks.append(one.message.streams))  # type: ignore[union-attr]
        bus = MemoryBus(broker, "recorder", "main")
        async with recording(bus, store), bus:
            node.publish(an_event(400, oldest=400))

            await until(lambda: {"s1": 400} in watermarks)
            assert await count(store, tables.event) == 1
    assert "a new one begins" in caplog.text


@pytest.mark.sqlite
async def test_a_new_file_has_large_pages_and_can_shrink(tmp_path: Path) -> None:
    async with Store(url(tmp_path, with_tables=False)) as store:
        path = Path(store.name)
    database = sqlite3.connect(path)
    found = [database.execute(f"PRAGMA {of}").fetchone() for of in ("page_size", "auto_vacuum")]
    database.close()

    assert found == [(16384,), (2,)]


@pytest.mark.sqlite
async def test_a_file_whose_sums_are_damaged_is_replaced_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Store(url(tmp_path)) as store:
        path = Path(store.name)
    database = sqlite3.connect(path)
    (page,) = database.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'sample_5m'"
    ).fetchone()
    (size,) = database.execute("PRAGMA page_size").fetchone()
    database.close()
    with path.open("r+b") as file:
        file.seek(size * (page - 1))
        file.write(b"\xa5" * size)

    bus = MemoryBus(MemoryBroker())
    async with Store(url(tmp_path)) as store, bus, recording(bus, store):
        await until(lambda: "a new one begins" in caplog.text)
        await until(lambda: store.is_open)
