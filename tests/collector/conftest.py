"""Fixtures of the collector's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.collector.interface import Sweep
from services.collector.nvml.driver import OPENING, NvmlSource
from tests.nvml_stand_in import StandIn


@pytest.fixture
def nvml(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A driver with two idle GPUs, loaded by whatever process starts now."""
    stand_in = StandIn(library=nvml_library, file=tmp_path / "nvml.txt")
    stand_in.write()
    for name, value in stand_in.environment().items():
        monkeypatch.setenv(name, value)
    return stand_in


@pytest.fixture
async def source(nvml: StandIn) -> AsyncIterator[NvmlSource]:
    """The real adapter over that driver."""
    source = NvmlSource(0.5, Path("/dev"))
    yield source
    await source.close()


async def swept(source: NvmlSource) -> Sweep:
    """Return the first sweep after the driver was opened."""
    while (sweep := await source.sweep()).problem == OPENING:
        pass
    return sweep
