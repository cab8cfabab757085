"""Who has a GPU, as it is recorded with each sample."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from gleaner.bus.messages import GpuCondition, GpuState, Holder, SampleUser
from services.collector.processes.containers import container_of, shortened
from services.collector.processes.holding import users_of
from tests.builders import NOW
from tests.collector.test_gpus import GPU0, Node

ID = "0123456789abcdef" * 4


def a_state(*holders: Holder, state: GpuCondition = GpuCondition.BUSY) -> GpuState:
    return GpuState(node="n1", gpu="G", index=0, state=state, since=NOW, holders=holders, at=NOW)


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        (f"/system.slice/docker-{ID}.scope", ID[:12]),
        (f"/docker/{ID}/init", ID[:12]),
        (f"/machine.slice/libpod-{ID}.scope/container", ID[:12]),
        (f"/kubepods.slice/pod1/cri-containerd-{ID}.scope", ID[:12]),
        (f"/docker/{'f' * 64}/docker/{ID}", ID[:12]),
        (f"/odd/{ID}0", None),
        ("/user.slice/user-1000.slice/session-3.scope", None),
        (None, None),
    ],
)
def test_a_container_is_known_by_its_cgroup(cgroup: str | None, container: str | None) -> None:
    assert shortened(container_of(cgroup)) == container


def test_processes_are_put_together_by_user_run_and_container() -> None:
    users = users_of(
        a_state(
            Holder(pid=1, user="user1", memory_used_bytes=3),
            Holder(pid=2, user="user1", memory_used_bytes=4),
            Holder(pid=3, user="user1", container="c1"),
            Holder(pid=8, user="user1", container="c2", container_name="notebook"),
            Holder(pid=4, user="nobody", run="r1", entry="fold", memory_used_bytes=5),
            Holder(pid=5, user_id=1234),
            Holder(pid=6, alive=False),
            Holder(pid=7, user="root", ignored="program nvidia-smi"),
        )
    )

    assert users == (
        SampleUser(user="user1", processes=2, memory_used_bytes=7),
        SampleUser(user="user1", container="c1", processes=1),
        SampleUser(user="user1", container="notebook", processes=1),
        SampleUser(user="nobody", run="r1", entry="fold", processes=1, memory_used_bytes=5),
        SampleUser(user="uid 1234", processes=1),
        SampleUser(user=None, processes=1),
    )


def test_nobody_can_tell_who_has_a_gpu_that_does_not_answer() -> None:
    assert users_of(None) is None
    assert users_of(a_state(state=GpuCondition.UNKNOWN)) is None
    assert users_of(a_state(state=GpuCondition.IDLE)) == ()


async def test_each_sample_says_who_has_the_gpu_and_what_it_used() -> None:
    node = Node(sample_seconds=1e-9)
    node.world.process_opens(0, user="user1")
    for _ in range(3):
        await node.watch.check()
    node.watch.close()
    await node.world.source.close()

    samples: Any = node.events("samples")[0].data["samples"]
    own = [one for one in samples if one["gpu"] == GPU0]
    assert [[user["user"] for user in one["users"]] for one in own] == [["user1"]] * 3
    assert own[0]["energy_used_joules"] is None
    for before, after in pairwise(own):
        used = after["energy_joules"] - before["energy_joules"]
        assert after["energy_used_joules"] == used
