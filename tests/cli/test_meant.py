"""What is printed anywhere names the same GPU in every command."""

from __future__ import annotations

import pytest

from gleaner import names
from gleaner.cli.meant import meant
from gleaner.cli.now.users import users
from gleaner.names import Called
from tests.cli.fleets import example_fleet
from tests.web.example import gpu_id

SHOWN = {"boreas": "North Wind"}
FLEET = example_fleet()


def gpus(target: str) -> list[str]:
    return [gpu.gpu for _, gpu in meant(FLEET, target, SHOWN).gpus]


@pytest.mark.parametrize(
    ("target", "index"),
    [("atlas:5", 5), ("atlas-5", 5), (gpu_id("atlas", 5)[4:], 5), ("atlas:05", None)],
)
def test_one_gpu_has_some_names(target: str, index: int | None) -> None:
    assert gpus(target) == ([] if index is None else [gpu_id("atlas", index)])


def test_a_node_is_called_by_its_id_or_as_it_is_shown() -> None:
    assert gpus("boreas:0") == gpus("North Wind:0") == gpus("North Wind-0") != []
    assert gpus("North Wind") == gpus("boreas")


def test_the_id_of_a_node_comes_first() -> None:
    found = meant(FLEET, "sim-0", {"atlas": "sim", "boreas": "sim-0"})

    assert ([node.node for node in found.nodes], found.indices) == (["sim-0"], None)


def test_several_gpus_of_a_node_are_told_as_they_are_printed() -> None:
    assert gpus("atlas:0,5") == gpus("atlas-0,5") == [gpu_id("atlas", 0), gpu_id("atlas", 5)]
    assert names.gpu("atlas", 0, None) == "atlas:0,?"


def test_every_name_in_the_table_of_users_is_understood() -> None:
    printed = [
        name.removesuffix(" (simulated)")
        for one in users(FLEET, Called(nodes=SHOWN))
        for name in one.gpus.split("  ")
    ]

    assert len(printed) > 2
    assert all(gpus(name) for name in printed)


def test_what_nobody_is_called_means_nothing() -> None:
    for target in ("", ":", "-", ":0", "nobody", "nobody:0", "GPU"):
        assert gpus(target) == []
