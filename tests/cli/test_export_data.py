"""`gleaner export data` where nothing comes of it: one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_commands import Said


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    monkeypatch.setenv("GLEANER_BUS__URL", "mqtt://127.0.0.1:1")
    return Said(capsys, monkeypatch)


@pytest.mark.parametrize(
    ("options", "status", "expected"),
    [
        (("--since", "soon"), 2, "--since: 'soon' is no time; expected something like 7d"),
        (("--until", "2026-13-01"), 2, "--until: "),
        (("--since", "0001-01-01"), 2, "--since: '0001-01-01' lies outside the years 1970 to 9998"),
        (("--since", "2d", "--until", "3d"), 2, "--since: 2d is not before --until 3d"),
        (("--since", "2999-01-01"), 2, "--since: 2999-01-01 is not past; nothing is recorded yet"),
        ((), 1, "no broker at mqtt://127.0.0.1:1"),
    ],
)
def test_a_mistake_is_one_line(
    command: Said, tmp_path: Path, options: tuple[str, ...], status: int, expected: str
) -> None:
    ended, said, told = command("export", "data", "runs", str(tmp_path / "a.csv"), *options)

    assert (ended, said) == (status, "")
    assert told.startswith(expected)
    assert len(told.splitlines()) == 1
    assert [*tmp_path.glob("*.csv")] == []


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("", "FILE is empty; - is standard output"),
        ("a.xlsx", "--format: a.xlsx does not say which: it is one of csv, json, parquet"),
    ],
)
def test_a_file_that_cannot_be_meant_is_a_mistake_of_usage(
    command: Said, file: str, expected: str
) -> None:
    assert command("export", "data", "runs", file) == (2, "", f"{expected}\n")


def test_a_site_is_never_written_into_the_folder_somebody_happens_to_be_in(command: Said) -> None:
    assert command("export", "site", "") == (2, "", "DIRECTORY is empty; . is this one\n")
