"""A damaged file is replaced while others read, or while the recorder is told to end."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError

from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.messages import HistoryAnswer, RecorderState
from services.recorder.schema import tables
from services.recorder.storage.condition import ASIDE
from services.recorder.storage.connect import url_of, writing
from services.recorder.storage.damage import kept_aside
from services.recorder.storage.examine import examine
from services.recorder.store import Store
from services.recorder.upkeep.moving import bring_up_to_date
from tests.builders import NOW, until
from tests.recorder.builders import a_query, an_event, count, numbers, recording, url

DAMAGE = DatabaseError("SELECT 1", (), Exception("database disk image is malformed"))


async def test_who_reads_and_who_replaces_the_file_do_not_meet(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        await store.write(numbers(an_event(1)), now=NOW)
        async with asyncio.TaskGroup() as group:
            before = [group.create_task(count(store, tables.event)) for _ in range(4)]
            sizes = [group.create_task(store.used_bytes()) for _ in range(4)]
            # They are on their way, each in a thread of its own.
            await asyncio.sleep(0.002)
            group.create_task(store.begin_anew(DAMAGE))
            await asyncio.sleep(0)
            after = [group.create_task(count(store, tables.event)) for _ in range(4)]

        assert [one.result() for one in before] == [1, 1, 1, 1]
        assert all(size.result() > 0 for size in sizes)
        assert [one.result() for one in after] == [0, 0, 0, 0]
        assert len(store.kept_aside()) == 1


@pytest.mark.parametrize("steps", [1, 10, 30])
async def test_a_replacement_that_has_begun_is_done_to_its_end(tmp_path: Path, steps: int) -> None:
    async with Store(url(tmp_path)) as store:
        await store.write(numbers(an_event(1)), now=NOW)
        replacing = asyncio.create_task(store.begin_anew(DAMAGE))
        for _ in range(steps):
            await asyncio.sleep(0)
        replacing.cancel()
        await asyncio.wait([replacing])

        assert replacing.cancelled()
        assert store.is_open
        assert await count(store, tables.event) == 0


async def test_what_the_damaged_file_has_is_not_told_as_lost(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        await store.write(numbers(an_event(1), an_event(2), an_event(3)), now=NOW)
        await store.begin_anew(DAMAGE)

        await store.write(numbers(an_event(4, oldest=4)), now=NOW)
        assert (await store.condition()).lost_events == 0
        (gap,) = await store.read(select(tables.gap))
        assert (gap.first, gap.last, gap.reason) == (1, 3, ASIDE)

        # Of a stream that is known already: 5 and 6 the damaged file never had.
        await store.write(numbers(an_event(7, oldest=7)), now=NOW)
        assert (await store.condition()).lost_events == 2


def log_of(store: Store) -> Path:
    return Path(f"{store.name}-wal")


def spoil(log: Path) -> None:
    with log.open("r+b") as file:
        file.write(os.urandom(log.stat().st_size))


def spoil_frame(log: Path, *, at: int) -> None:
    """Damage the frame in the middle of a log; what the log begins with is right."""
    frame_bytes = 24 + int.from_bytes(log.read_bytes()[8:12])
    frames = (log.stat().st_size - 32) // frame_bytes
    with log.open("r+b") as file:
        file.seek(32 + frames // 2 * frame_bytes + at)
        file.write(b"\xa5" * 16)


def events_in(path: Path) -> int:
    with sqlite3.connect(path) as database:
        (found,) = database.execute("SELECT count(*) FROM event").fetchone()
    database.close()
    return int(found)


async def test_a_log_that_is_damaged_while_it_runs_is_noticed_by_who_reads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker, states, answers = MemoryBroker(), list[RecorderState](), list[HistoryAnswer]()
    bus, others = MemoryBus(broker), MemoryBus(broker)
    others.subscribe(RecorderState, lambda d: states.append(d.message))  # type: ignore[arg-type]
    others.subscribe(HistoryAnswer, lambda d: answers.append(d.message))  # type: ignore[arg-type]
    async with Store(url(tmp_path)) as store:
        await store.write(numbers(an_event(1)), now=NOW)
    async with Store(url(tmp_path)) as store, bus, others, recording(bus, store):
        others.publish(an_event(2))
        await until(lambda: store.recorded("n1").get("s1") == 2)
        spoil(log_of(store))
        others.publish(a_query(expires_at=datetime.now(UTC) + timedelta(minutes=1)))
        await until(lambda: bool(store.kept_aside()) and store.is_open)
        others.publish(an_event(3, oldest=3))
        await until(lambda: store.recorded("n1").get("s1") == 3)
        await until(lambda: bool(states[-1].kept_aside))

        assert await count(store, tables.event) == 1
        assert (await store.condition()).lost_events == 0

    assert answers[0].is_fault
    assert "cannot be read" in str(answers[0].error)
    assert any("the file is examined" in str(state.problem) for state in states)
    assert states[-1].problem is None
    assert "a new one begins" in caplog.text
    (name,) = store.kept_aside()
    aside = Path(store.name).with_name(name)
    assert aside.with_name(f"{name}-wal").exists()
    # What was in the file itself is as it was: nothing of the log came into it.
    aside.with_name(f"{name}-wal").unlink()
    assert events_in(aside) == 1


async def test_an_error_that_the_file_does_not_bear_out_changes_nothing(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        log = log_of(store)
        await store.write(numbers(an_event(1)), now=NOW)
        whole = log.read_bytes()
        spoil(log)
        with pytest.raises(DatabaseError):
            await count(store, tables.event)
        log.write_bytes(whole)

        assert await store.suspected()
        assert not await store.replace_if_damaged()
        assert await count(store, tables.event) == 1
        assert not await store.replace_if_damaged()


async def test_a_log_that_would_be_dropped_at_the_start_is_kept_aside_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed = tmp_path / "killed" / "recorder"
    async with Store(url(tmp_path)) as store:
        await store.write(numbers(an_event(1)), now=NOW)
        shutil.copytree(Path(store.name).parent, killed, ignore=shutil.ignore_patterns("*.lock"))
        # What a killed recorder leaves is taken up as ever.
        async with Store(url(killed.parent)) as other:
            assert await count(other, tables.event) == 1
            assert not other.kept_aside()
        shutil.copy(log_of(store), killed)
    spoil(log_of(other))

    async with Store(url(killed.parent)) as other:
        (name,) = other.kept_aside()
        assert name.endswith("-wal")
        assert name in caplog.text
        assert await count(other, tables.event) == 1


async def test_a_log_that_only_the_recorder_can_read_still_is_written_anew(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        await store.write(numbers(an_event(1)), now=NOW)
        with log_of(store).open("r+b") as file:
            file.write(b"\xa5" * 32)
        assert (await store.condition()).lost_events == 0
        assert "its log is damaged" in str(await store.suspected())

        assert not await store.replace_if_damaged()
        await store.write(numbers(an_event(2)), now=NOW)
        shutil.copytree(Path(store.name).parent, tmp_path / "killed" / "recorder")
        assert not store.kept_aside()

    async with Store(url(tmp_path / "killed")) as other:
        assert await count(other, tables.event) == 2
        assert not other.kept_aside()


def killed(store: Store, folder: Path) -> Path:
    """What a recorder that is killed just now leaves: a folder with its file and log."""
    left = folder / "recorder"
    shutil.copytree(Path(store.name).parent, left, ignore=shutil.ignore_patterns("*.lock"))
    return left / Path(store.name).name


@pytest.mark.parametrize("what", ["page", "header"])
async def test_a_log_that_is_damaged_in_its_middle_is_kept_and_named_and_read_up_to_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    async with Store(url(tmp_path)) as store:
        for number in range(1, 10):
            await store.write(numbers(an_event(number)), now=NOW)
        path = killed(store, tmp_path / what)
    log = Path(f"{path}-wal")
    spoil_frame(log, at=100 if what == "page" else 0)
    damaged = log.read_bytes()

    async with Store(url(tmp_path / what)) as other:
        left = await count(other, tables.event)
        assert 0 < left < 9
        (name,) = other.kept_aside()
        assert name.endswith("-wal")
        assert f"it is kept as {name}" in caplog.text
        assert path.with_name(name).read_bytes() == damaged
        # What a node has still, and what it has not any more.
        await other.write(numbers(an_event(20, oldest=20)), now=NOW)
        assert (await other.condition()).lost_events == 19 - left
    async with Store(url(tmp_path / what)) as other:
        assert len(other.kept_aside()) == 1


async def test_commands_do_not_drop_a_damaged_log_either(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Store(url(tmp_path)) as store:
        for number in range(1, 10):
            await store.write(numbers(an_event(number)), now=NOW)
        path = killed(store, tmp_path / "killed")
    log = Path(f"{path}-wal")
    spoil_frame(log, at=100)
    damaged = log.read_bytes()

    await examine(f"sqlite:///{path}")
    assert log.read_bytes() == damaged

    await bring_up_to_date(f"sqlite:///{path}")
    (name,) = kept_aside(path)
    assert path.with_name(name).read_bytes() == damaged
    assert name in caplog.text


async def test_what_a_recorder_could_not_finish_when_it_was_killed_is_no_damage(
    tmp_path: Path,
) -> None:
    async with Store(url(tmp_path)) as store:
        for number in range(1, 10):
            await store.write(numbers(an_event(number)), now=NOW)
        path = killed(store, tmp_path / "killed")
    with Path(f"{path}-wal").open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"\xa5" * 1000)

    async with Store(url(tmp_path / "killed")) as other:
        assert not other.kept_aside()
        assert await count(other, tables.event) == 8


async def test_what_is_told_to_be_recorded_is_on_the_disk(tmp_path: Path) -> None:
    """Nodes forget it: a power cut must not take it."""
    engine = writing(url_of(url(tmp_path)))
    async with engine.connect() as connection:
        said = await connection.execute(text("PRAGMA synchronous"))
        assert said.scalar_one() == 2, "not FULL"
    await engine.dispose()
