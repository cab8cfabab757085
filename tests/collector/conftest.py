"""Fixtures of the collector's tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nvml_stand_in import StandIn


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users can enter; pytest's own are closed to them by each new run."""
    with tempfile.TemporaryDirectory(prefix="gleaner-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def nvml(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A driver with two idle GPUs, loaded by whatever process starts now."""
    stand_in = StandIn(library=nvml_library, file=tmp_path / "nvml.txt")
    stand_in.write()
    for name, value in stand_in.environment().items():
        monkeypatch.setenv(name, value)
    return stand_in
