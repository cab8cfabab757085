"""Real child processes under a real runner."""

from __future__ import annotations

from pathlib import Path

import pytest

from gleaner.bus.messages import GpuCondition
from tests.runner.rig import Rig, gpu_state, is_alive, workload

pytestmark = pytest.mark.real


async def test_a_workload_starts_and_leaves_when_a_stranger_comes(tmp_path: Path) -> None:
    async with Rig(tmp_path, workload()).running() as rig:
        await rig.launched("r1", "r2")
        pid, other = rig.facts["r1"].pid, rig.facts["r2"].pid
        assert pid
        assert other
        assert is_alive(pid)

        rig.bus.publish(gpu_state("GPU-0", GpuCondition.BUSY, "user1 computes (pid 4711, python)"))
        rig.bus.publish(gpu_state("GPU-0", GpuCondition.BUSY, "user1 computes (pid 4711, python)"))

        fact = await rig.is_over("r1")
        assert (fact.state, fact.cause and fact.cause.text, is_alive(pid), is_alive(other)) == (
            "evicted",
            "GPU 0: user1 computes (pid 4711, python)",
            False,
            True,
        )
        print(fact, rig.state, rig.catalogue)
