"""`gleaner database` as somebody types it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from services.recorder.store import Store
from tests.cli.test_commands import Said


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Said:
    monkeypatch.setenv("GLEANER_NODE__DATA_DIRECTORY", str(tmp_path))
    return Said(capsys, monkeypatch)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The recorder's, with nothing in it yet."""
    path = tmp_path / "recorder" / "gleaner.sqlite"

    async def make() -> None:
        async with Store(f"sqlite:///{path}"):
            pass

    asyncio.run(make())
    return path


def test_a_check_shows_what_is_there(command: Said, database: Path) -> None:
    status, said, _ = command("database", "check")
    assert status == 0
    for words in (str(database), "the newest", "every page and index is whole", "use_1h"):
        assert words in said.replace("\n", "")

    status, said, _ = command("database", "check", "--json")
    found = json.loads(said)
    assert (status, found["is_well"]) == (0, True)
    assert {"name": "session", "rows": 0, "oldest": None, "newest": None}.items() <= next(
        one for one in found["tables"] if one["name"] == "session"
    ).items()


def test_a_check_of_what_is_not_there_ends_with_1(command: Said, tmp_path: Path) -> None:
    status, said, _ = command("database", "check", f"sqlite:///{tmp_path}/none.sqlite")

    assert status == 1
    assert "there is no such file" in said


def test_a_long_name_is_not_broken(
    command: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    url = f"sqlite:///{tmp_path / ('long' * 40)}.sqlite"

    _, said, _ = command("database", "check", url)

    assert url.removeprefix("sqlite:///") in said


def test_migrating_says_what_was_done(command: Said, database: Path) -> None:
    status, said, _ = command("database", "migrate")

    assert status == 0
    assert said.startswith(f"{database}: has the newest layout")


def test_a_copy_says_how_much_it_was(command: Said, database: Path, tmp_path: Path) -> None:
    target = tmp_path / "other" / "copy.sqlite"
    status, said, told = command("database", "copy", f"sqlite:///{database}", f"sqlite:///{target}")

    assert (status, target.is_file()) == (0, True)
    assert "2 rows were copied and counted" in said
    assert "session: 0 rows" in told


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (("check", "mysql://db1/gleaner"), 2, "a database is sqlite:///path"),
        (("migrate", "sqlite:////none/at/all.sqlite"), 1, "there is no such file"),
        (("copy", "sqlite:////none/a.sqlite", "sqlite:///b.sqlite"), 1, "there is no such file"),
        (
            ("migrate", "postgresql://user1:secret@127.0.0.1:1/none"),
            1,
            "user1:***@127.0.0.1:1/none: it cannot be reached (Connection refused)",
        ),
    ],
)
def test_a_mistake_is_one_line(
    command: Said, arguments: tuple[str, ...], status: int, expected: str
) -> None:
    ended, _, told = command("database", *arguments)

    assert ended == status
    assert expected in told
    assert len(told.splitlines()) == 1
    assert "secret" not in told
