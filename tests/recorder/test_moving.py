"""`gleaner database`: looked at, brought up to date, and moved without losing a row."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from gleaner.runtime import Fatal
from services.recorder.schema import tables
from services.recorder.storage.examine import Examined, examine
from services.recorder.store import Store
from services.recorder.upkeep.moving import bring_up_to_date, copy
from tests.builders import NOW
from tests.postgres import Postgres
from tests.recorder.builders import an_event, numbers
from tests.recorder.test_month import START, a_sample, event, record, settle
from tests.recorder.test_search import forget_mentions

pytestmark = pytest.mark.real

Place = Callable[[str], str]


def file_in(folder: Path) -> Place:
    return lambda name: f"sqlite:///{folder / name}.sqlite"


async def fill(where: str) -> None:
    """A day with everything in it: samples, sums, sessions, events, a gap, a bad payload."""
    samples = [a_sample(START + timedelta(minutes=10) * n) for n in range(1, 145)]
    async with Store(where) as store:
        await record(store, [event(1, samples)], NOW)
        await record(store, [an_event(5, oldest=4, stream="s2")], NOW)
        await settle(store, NOW)


async def everything(where: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    async with Store(where) as store:
        for table in tables.metadata.sorted_tables:
            rows = await store.read(select(table))
            found[table.name] = sorted((tuple(row) for row in rows), key=repr)
    return found


def nothing(_: str) -> None:
    """Say nothing."""


async def test_a_copy_takes_the_place_of_no_device_or_pipe(tmp_path: Path) -> None:
    where = file_in(tmp_path)
    async with Store(where("a")):
        pass
    pipe = tmp_path / "b.sqlite"
    os.mkfifo(pipe)

    with pytest.raises(Fatal, match=r"b\.sqlite: it is no file"):
        await copy(where("a"), where("b"), nothing)
    assert pipe.is_fifo()
    assert words(await examine(where("b"))) == "it is no file"


async def moved_and_back(there: Place, here: Place) -> None:
    await fill(here("a"))
    before = await everything(here("a"))
    said: list[str] = []

    copied = await copy(here("a"), there("b"), said.append)
    await copy(there("b"), here("c"), nothing)

    assert copied == sum(map(len, before.values())) > 500
    assert "session: " in "".join(said)
    assert await everything(there("b")) == before
    assert await everything(here("c")) == before
    async with Store(there("b")) as store:
        # It goes on counting where the other one was.
        await record(store, [an_event(4, oldest=4, stream="s2")], NOW)
        assert store.recorded("n1")["s2"] == 5


async def test_a_copy_of_a_file_has_every_row(tmp_path: Path) -> None:
    await moved_and_back(file_in(tmp_path), file_in(tmp_path))
    assert {path.suffix for path in tmp_path.iterdir()} == {".sqlite", ".lock"}


async def test_a_copy_is_as_private_as_what_was_copied(tmp_path: Path) -> None:
    place = file_in(tmp_path)
    before = os.umask(0o022)
    try:
        await fill(place("a"))
        await copy(place("a"), place("b"), nothing)
        async with Store(place("b")) as store:
            await store.write(numbers(an_event(9, oldest=9)), now=NOW)
            modes = {one.name: one.stat().st_mode & 0o777 for one in tmp_path.iterdir()}
    finally:
        os.umask(before)

    assert {"b.sqlite", "b.sqlite-wal", "b.sqlite-shm"} < modes.keys()
    assert set(modes.values()) == {0o600}


async def test_a_damaged_source_is_named_and_not_the_target(tmp_path: Path) -> None:
    place = file_in(tmp_path)
    await fill(place("a"))
    path = tmp_path / "a.sqlite"
    with sqlite3.connect(path) as database:
        (page,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'event'"
        ).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    database.close()
    with path.open("r+b") as file:
        file.seek(size * (page - 1))
        file.write(b"\xa5" * size)

    with pytest.raises(Fatal, match=rf"^{path}: .*malformed"):
        await copy(place("a"), place("b"), nothing)

    assert not (tmp_path / "b.sqlite").exists()


async def test_a_copy_to_a_server_and_back_has_every_row(
    tmp_path: Path, postgres: Postgres
) -> None:
    await moved_and_back(lambda name: postgres.database(f"moved {name}"), file_in(tmp_path))


async def test_a_server_database_that_has_rows_is_no_target(
    tmp_path: Path, postgres: Postgres
) -> None:
    source, target = file_in(tmp_path)("a"), postgres.database("filled")
    await fill(source)
    await fill(target)
    with pytest.raises(Fatal, match="is not empty: there are rows in"):
        await copy(source, target, nothing)

    postgres.database("foreign")
    postgres.sql("CREATE TABLE shop (id int)", postgres.name("foreign"))
    with pytest.raises(Fatal, match="has a table shop, which is not Gleaner's"):
        await copy(source, postgres.database("foreign"), nothing)


async def test_a_file_that_has_rows_is_no_target(tmp_path: Path) -> None:
    place = file_in(tmp_path)
    await fill(place("a"))
    await fill(place("b"))

    with pytest.raises(Fatal, match=r"b\.sqlite is not empty"):
        await copy(place("a"), place("b"), nothing)
    with pytest.raises(Fatal, match="are the same"):
        await copy(place("a"), place("a"), nothing)
    with pytest.raises(Fatal, match=r"none\.sqlite: there is no such file"):
        await copy(place("none"), place("c"), nothing)


async def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    place = file_in(tmp_path)
    await fill(place("a"))

    def fail(what: str) -> None:
        if what.startswith("session"):
            raise OSError("no space left on device")

    with pytest.raises(Fatal, match="no space left on device"):
        await copy(place("a"), place("b"), fail)

    assert {path.name for path in tmp_path.iterdir()} == {"a.sqlite", "a.sqlite.lock"}


async def test_nothing_is_moved_while_a_recorder_writes(tmp_path: Path) -> None:
    place = file_in(tmp_path)
    await fill(place("a"))
    async with Store(place("a")):
        with pytest.raises(Fatal, match="writes to it; only one may; stop the recorder first"):
            await copy(place("a"), place("b"), nothing)
        with pytest.raises(Fatal, match="stop the recorder first"):
            await bring_up_to_date(place("a"))
        examined = await examine(place("a"))
        assert "a recorder writes to it" in words(examined)
        assert examined.is_well


def words(examined: Examined) -> str:
    return "\n".join(finding.text for finding in examined.findings)


@pytest.mark.parametrize("on_server", [False, pytest.param(True, marks=pytest.mark.real)])
async def test_a_check_tells_what_is_in_it(
    tmp_path: Path, on_server: bool, request: pytest.FixtureRequest
) -> None:
    where = file_in(tmp_path)("a")
    if on_server:
        where = request.getfixturevalue("postgres").database("checked")
    await fill(where)

    examined = await examine(where)

    assert examined.is_well
    assert examined.used_bytes
    by_name = {table.name: table for table in examined.tables}
    samples = by_name["sample"]
    assert (samples.rows, samples.oldest) == (144, START + timedelta(minutes=5))
    assert samples.newest == START + timedelta(days=1, minutes=-5)
    assert all(table.bytes for table in examined.tables)
    assert "a recorder writes to it" not in words(examined)
    assert "cannot shrink" not in words(examined)


async def test_a_check_tells_what_is_not_indexed_yet_and_migrating_does_it(tmp_path: Path) -> None:
    where, said = file_in(tmp_path)("a"), list[str]()
    async with Store(where) as store:
        await store.write(numbers(*(an_event(one) for one in range(1, 1500))), now=NOW)
        await forget_mentions(store)

    assert "older events are not indexed yet" in words(await examine(where))
    await bring_up_to_date(where, said.append)
    assert "older events" not in words(await examine(where))
    assert said == ["older events are being indexed, 499 left at most"]


async def test_a_check_names_damage(tmp_path: Path) -> None:
    where = file_in(tmp_path)("a")
    await fill(where)
    path = tmp_path / "a.sqlite"
    whole = path.read_bytes()
    path.write_bytes(whole[: 4096 * 6] + b"\xa5" * 4096 * 4 + whole[4096 * 10 :])

    examined = await examine(where)

    assert not examined.is_well
    assert "damaged: " in words(examined) or "malformed" in words(examined)


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", "was written by a newer version"),
        ("UPDATE alembic_version SET version_num = 'ab12'", "belongs to another program"),
        ("DROP TABLE alembic_version", "it is not Gleaner's: it has"),
        ("UPDATE alembic_version SET version_num = '0001'", "the newest is"),
    ],
)
async def test_a_check_names_a_database_that_is_not_ours_or_not_of_today(
    tmp_path: Path, statements: str, expected: str
) -> None:
    where = file_in(tmp_path)("a")
    await fill(where)
    change(tmp_path / "a.sqlite", statements)

    examined = await examine(where)

    assert expected in words(examined)
    assert examined.is_well == ("the newest is" in expected)


async def test_a_check_of_nothing_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("no database at all, but long enough to be read" * 10)

    assert words(await examine(file_in(tmp_path)("none"))) == "there is no such file"
    assert "not a database" in words(await examine(file_in(tmp_path)("text")))
    assert [path.name for path in tmp_path.iterdir()] == ["text.sqlite"]


def change(path: Path, statements: str) -> None:
    database = sqlite3.connect(path)
    database.executescript(statements)
    database.close()


async def test_migrating_makes_a_file_able_to_shrink(tmp_path: Path) -> None:
    where = file_in(tmp_path)("a")
    await fill(where)
    change(tmp_path / "a.sqlite", "PRAGMA auto_vacuum=NONE; VACUUM")
    before = await everything(where)
    assert "cannot shrink" in words(await examine(where))

    migrated = await bring_up_to_date(where)

    assert migrated.can_shrink_now
    assert migrated.before == migrated.after
    assert "cannot shrink" not in words(await examine(where))
    assert await everything(where) == before
    assert not (await bring_up_to_date(where)).can_shrink_now


async def test_migrating_an_empty_server_database_makes_the_tables(postgres: Postgres) -> None:
    where = postgres.database("empty")

    migrated = await bring_up_to_date(where)

    assert (migrated.before, migrated.can_shrink_now) == (None, False)
    assert (await examine(where)).is_well
