"""A GPU in MIG mode and its instances: nothing is counted twice, and no energy is lost."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from gleaner.bus.messages import GpuInventory, Inventory, Sample, SampleUser
from services.recorder.queries import answers
from services.recorder.queries.questions import Known
from services.recorder.store import Store
from services.recorder.values import mig
from tests.recorder.builders import KEEP, a_query, url
from tests.recorder.test_month import INTERVAL, START, event, record, settle

PARENT, PARTS = "GPU-1", ("MIG-1", "MIG-2")
NOW = START + timedelta(hours=3)
HOURS = 2
ALICE = SampleUser(user="alice", processes=1, memory_used_bytes=2**30)


def inventory() -> Inventory:
    parts = (GpuInventory(gpu=one, index=7, name="A100 MIG", parent=PARENT) for one in PARTS)
    return Inventory(
        node="n1",
        host="n1",
        boot_id="b",
        agent_version="0",
        source="nvml",
        gpus=(GpuInventory(gpu=PARENT, index=0, name="A100", schedulable=False), *parts),
        notices_opens_by="check",
        notices_people_by="nothing",
        limitations=(),
        at=NOW,
    )


def samples() -> list[Sample]:
    """Alice has the first instance for two hours, and the driver lists her on the parent too."""
    found = []
    for place in range(1, HOURS * 24 + 1):
        common: dict[str, Any] = {"index": 0, "at": START + INTERVAL * place, "seconds": 150}
        used: dict[str, Any] = {"memory_used_bytes": 2**30, "users": (ALICE,)}
        busy, idle = {"state": "busy", **used}, {"state": "idle", "memory_used_bytes": 0}
        found += [
            Sample(gpu=PARENT, power_watts=240, **common, **busy),
            Sample(gpu="MIG-1", **common, **busy),
            Sample(gpu="MIG-2", **common, **idle, users=()),
        ]
    return found


async def ask(store: Store, **wanted: Any) -> list[dict[str, Any]]:
    known = Known(names=store.names, local=store.local, retention=KEEP)
    query = a_query(**{"what": "usage", "since": START} | wanted)
    return list((await answers.answer(store.read, query, known, NOW)).rows)


async def test_only_the_instances_count_and_the_energy_is_the_parents(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        await store.hear(inventory(), NOW)
        await record(store, [event(1, samples())], NOW)
        await settle(store, NOW)

    # What is known of parents is in the database, too.
    async with Store(url(tmp_path)) as store:
        for by in ("day", "node", "month"):
            (row,) = await ask(store, by=by)
            assert (row["busy_hours"], row["idle_hours"]) == (HOURS, HOURS)
            assert row["memory_byte_hours"] == HOURS * 2**30
            assert row["energy_joules"] == 240 * HOURS * 3600
        by_gpu = {row["gpu"]: row["gpu_hours"] for row in await ask(store, by="gpu")}
        assert by_gpu == {PARENT: 0, "MIG-1": HOURS, "MIG-2": 0}
        (alice,) = await ask(store)
        assert (alice["user"], alice["gpu_hours"]) == ("alice", HOURS)
        assert {row["gpu"] for row in await ask(store, what="sessions")} == {"MIG-1"}
        for points in (1, 48):
            of_node = await ask(store, what="series", node="n1", points=points)
            assert sum(row["busy_seconds"] for row in of_node) == HOURS * 3600
            of_parent = await ask(store, what="series", gpu=PARENT, points=points)
            assert {row["power_watts"] for row in of_parent} == {240}
            assert sum(row["seconds"] for row in of_parent) == HOURS * 3600
            assert {row["busy_seconds"] for row in of_parent} == {0}


async def test_a_gpu_in_mig_mode_without_instances_counts_no_time(tmp_path: Path) -> None:
    """For an hour it has none, then MIG mode is off: what was said with each sample decides."""
    found = [
        Sample(
            gpu=PARENT, index=0, at=START + INTERVAL * place, seconds=150, state="idle",
            power_watts=60, utilization_percent=0, schedulable=place > 24, users=(),
        )
        for place in range(1, 49)
    ]  # fmt: skip
    async with Store(url(tmp_path)) as store:
        await record(store, [event(1, found)], NOW)
        await settle(store, NOW)

        (row,) = await ask(store, by="gpu")
        assert row["idle_hours"] == 1
        assert row["energy_joules"] == 60 * 7200
        single = await ask(store, what="samples", gpu=PARENT, limit=1000)
        assert sum(one["schedulable"] for one in single) == 24
        for points in (2, 48):
            hour = await ask(
                store, what="series", gpu=PARENT, points=points, until=START + timedelta(hours=1)
            )
            assert {(one["idle_seconds"], one["utilization_percent"]) for one in hour} == {
                (0, None)
            }
            assert {one["power_watts"] for one in hour} == {60}


def test_a_gpu_without_instances_at_that_time_counts() -> None:
    assert mig.divided([1, 2, 3], {2: 1, 5: 4}) == {1}
    assert mig.divided([4], {5: 4}) == set()
