"""The machine that is asked: each question is asked of stand-ins, and of a real GPU where one is.

`make test` asks the stand-ins (marker e2e), `make test-gpu` the real one (marker gpu).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gpu.machine import Machine, machine_of_stand_ins, real_machine


@pytest.fixture(
    params=[
        pytest.param("stand-in", marks=pytest.mark.e2e),
        pytest.param("real", marks=pytest.mark.gpu),
    ]
)
async def machine(request: pytest.FixtureRequest, common_path: Path) -> AsyncIterator[Machine]:
    """A machine with an idle GPU."""
    if request.param == "real":
        found = real_machine()
    else:
        library = request.getfixturevalue("nvml_library")
        found = machine_of_stand_ins(common_path, library)
    if isinstance(found, str):
        pytest.fail(found, pytrace=False)
    async with found.running():
        yield found
