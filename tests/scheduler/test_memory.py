"""What survives a restart, and what a damaged file costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gleaner.bus.messages import Drain, Pause
from services.scheduler import memory
from services.scheduler.memory import Memory
from services.scheduler.state import Crash
from tests.builders import NOW

FULL = Memory(
    term=7,
    pauses=(Pause(node="n1", entry="fold", reason="noise", by="alice", until=NOW, at=NOW),),
    drains=(Drain(node="n2", reason="", by="bob", at=NOW),),
    crashes=(
        Crash(node="n1", entry="fold", gpus=("GPU-0",), digest="d", failures=5, not_before=NOW),
    ),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "scheduler" / "state.json"

    memory.write(path, FULL)

    assert memory.read(path) == FULL
    assert memory.memory_of(memory.remembered(FULL, NOW)) == FULL
    assert [one.name for one in path.parent.iterdir()] == ["state.json"]


def test_without_a_file_everything_begins_anew(tmp_path: Path) -> None:
    assert memory.read(tmp_path / "state.json") == Memory()


def test_a_damaged_file_is_kept_aside_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.json"
    for text in ('{"term": 3, "pau', '{"term": "many"}'):
        path.write_text(text)
        assert memory.read(path) == Memory()

    assert (tmp_path / "state.json.damaged-1").read_text() == '{"term": 3, "pau'
    assert (tmp_path / "state.json.damaged-2").read_text() == '{"term": "many"}'
    assert f"{path} is damaged (term: " in caplog.text
