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
