"""What `gleaner up` says of a node, in one line."""

from __future__ import annotations

from typing import Any

from gleaner.bus.messages import GpuInventory, Inventory, RunnerState
from gleaner.cli.machine.found import describe
from tests.builders import NOW


def inventory(**what: Any) -> Inventory:
    fields = {
        "node": "n1",
        "host": "n1",
        "boot_id": "b",
        "agent_version": "1",
        "source": "nvml",
        "gpus": (),
        "notices_opens_by": "fanotify",
        "notices_people_by": "atime",
        "at": NOW,
    }
    return Inventory(**(fields | what))


def gpus(*names: str | None) -> tuple[GpuInventory, ...]:
    return tuple(
        GpuInventory(gpu=f"GPU-{index}", index=index, name=name) for index, name in enumerate(names)
    )


def test_gpus_are_counted_by_model_and_the_driver_is_named() -> None:
    line = describe(inventory(gpus=gpus("H100", "A100", "H100"), driver_version="570.1"), None)

    assert line == (
        "n1: 2 × H100, 1 × A100, driver 570.1; programs are noticed at once; "
        "people are noticed within some seconds only"
    )


def test_what_is_missing_comes_last_whoever_says_it() -> None:
    runner = RunnerState(
        node="n1",
        paused=False,
        watched=True,
        term=None,
        generation=None,
        lease="none",
        limitations=("no limits of memory.",),
        at=NOW,
    )

    line = describe(inventory(limitations=("no seats",)), runner)

    assert line.startswith("n1: no NVIDIA GPU; ")
    assert line.endswith("; no seats; no limits of memory")


def test_a_driver_that_cannot_be_asked_is_said() -> None:
    line = describe(inventory(gpus=gpus(None), driver_problem="driver was upgraded"), None)

    assert line.startswith("n1: 1 × GPU, driver was upgraded; ")


def test_of_a_simulated_node_only_that_is_said() -> None:
    simulated = inventory(
        source="simulated",
        gpus=gpus("Simulated H100"),
        limitations=("this node is simulated",),
        notices_opens_by="script",
        notices_people_by="script",
    )

    assert describe(simulated, None) == "n1: 1 × Simulated H100; this node is simulated"
