"""A stranger that carries the token of a run is a stranger."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import Stranger, System, environment_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]


async def test_whoever_read_a_workloads_token_is_still_a_stranger(common_path: Path) -> None:
    system = System(common_path)
    async with system:
        await system.until(lambda: len(system.runs()) == 2)
        run, other = system.run_on(0), system.run_on(1)
        assert run
        assert run.pid
        # The workload and the stranger are both nobody's.
        thief = Stranger(environment=environment_of(run.pid))

        thief.open(system.devices[0])

        await system.until(lambda: system.told_to_leave(run.run) is not None, 5)
        assert system.run_on(1) == other
        thief.end()
