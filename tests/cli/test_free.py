"""What may be taken now, and how."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest

from gleaner.bus.message import Message
from gleaner.bus.messages import GpuInventory, Inventory
from gleaner.cli.now.free import COLUMNS, Wish, as_json, free, lines, nothing, parse_bytes, rows
from tests.builders import NOW
from tests.cli.fleets import example_fleet, fleet_of
from tests.web.example import A100, GIB, Example, gpu_id

EXAMPLE = Example(NOW)


def offered(wish: Wish | None = None) -> dict[tuple[str, str], list[tuple[int | None, bool]]]:
    """Model and node to index and whether on demand."""
    return {
        (offer.model, offer.node): [(gpu.index, gpu.on_demand) for gpu in offer.gpus]
        for offer in free(example_fleet(), wish or Wish())
    }


def a_node(host: str, *changes: GpuInventory, uuid: str = "GPU-1") -> Iterable[Message]:
    """A living node with one idle GPU, called as wanted."""
    gpus = changes or (GpuInventory(gpu=uuid, index=3, name=A100, memory_total_bytes=40 * GIB),)
    yield EXAMPLE.beat("n1")
    inventory = EXAMPLE.inventory("n1", A100, 0, 0, notices="check")
    yield Inventory.model_validate(dict(inventory) | {"host": host, "gpus": gpus})
    for gpu in gpus:
        state = EXAMPLE.state("n1", gpu.index, "idle", "", hours=1)
        yield state.model_copy(update={"gpu": gpu.gpu})


def test_idle_gpus_are_free_and_ours_on_demand() -> None:
    found = offered()

    assert found["H100 80GB HBM3", "atlas"] == [(4, False), (2, True), (3, True)]
    assert found["A100-SXM4-40GB", "boreas"] == [(1, False), (2, False), (3, False)]


def test_what_is_silent_held_dirty_or_unknown_is_never_offered() -> None:
    nodes = {node for _, node in offered()}

    assert nodes == {"atlas", "boreas", "sim-0"}
    assert 3 not in [index for index, _ in offered()["Simulated H100", "sim-0"]]


def test_a_model_is_named_by_a_part_of_its_name_in_any_case() -> None:
    assert set(offered(Wish(model="a100"))) == {("A100-SXM4-40GB", "boreas")}


def test_a_card_sold_with_80_gb_has_80_gb() -> None:
    found = offered(Wish(memory_bytes=parse_bytes("80G")))

    assert {node for _, node in found} == {"atlas", "sim-0"}


def test_many_gpus_are_wanted_on_one_node() -> None:
    assert {node for _, node in offered(Wish(count=3))} == {"atlas", "boreas", "sim-0"}
    assert offered(Wish(count=4)) == {}


def test_memory_that_nobody_knows_is_never_enough() -> None:
    view = fleet_of(a_node("n1", GpuInventory(gpu="GPU-1", index=0, name=A100)))

    assert len(free(view, Wish())) == 1
    assert free(view, Wish(memory_bytes=1)) == []


def test_the_parent_of_mig_devices_is_not_offered() -> None:
    parent = GpuInventory(gpu="GPU-1", index=0, name=A100, schedulable=False)
    part = GpuInventory(gpu="MIG-1", index=0, name=A100, parent="GPU-1")
    offers = free(fleet_of(a_node("n1", parent, part)), Wish())

    assert [gpu.gpu for offer in offers for gpu in offer.gpus] == ["MIG-1"]


def test_the_lines_to_copy_take_idle_gpus_before_ours() -> None:
    offer = next(one for one in free(example_fleet(), Wish(count=2)) if one.node == "atlas")

    assert offer.ssh == "ssh atlas.example.org"
    assert offer.visible_devices == (
        f"CUDA_VISIBLE_DEVICES={gpu_id('atlas', 4)},{gpu_id('atlas', 2)}"
    )


def test_without_uuids_the_index_is_that_of_nvidia_smi() -> None:
    (offer,) = free(fleet_of(a_node("n1", uuid="minor-3")), Wish())

    assert offer.visible_devices == "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=3"


@pytest.mark.parametrize("host", ["-oProxyCommand=evil", "a;evil", "$(evil)", "a b"])
def test_no_line_to_copy_has_something_for_a_shell(host: str) -> None:
    (offer,) = free(fleet_of(a_node(host)), Wish())

    assert offer.ssh is None


def test_nothing_leads_to_what_does_not_exist() -> None:
    offers = free(example_fleet(), Wish())

    assert [offer.node for offer in offers if offer.simulated] == ["sim-0"]
    assert offers[-1].node == "sim-0"
    assert (offers[-1].ssh, offers[-1].visible_devices) == (None, None)


def test_nothing_that_fits_is_said_in_one_line() -> None:
    view = example_fleet()

    assert nothing(view, Wish(model="h200", count=2)) == (
        "no node has 2 free GPUs of a model with 'h200' in its name; 9 are free in all; "
        "not offered, because nothing is known now: cygnus is offline, draco is unheard"
    )
    assert nothing(fleet_of([]), Wish()) == "no GPU is free; nothing else is free"


def test_the_lines_have_models_words_and_what_to_copy() -> None:
    view = example_fleet()
    text = "\n".join(line.plain for line in lines(view, free(view, Wish())))

    for words in (
        "H100 80GB HBM3: 1 idle, 2 on demand",
        "atlas:2,3  on demand",
        "ssh atlas.example.org",
        f"CUDA_VISIBLE_DEVICES={gpu_id('atlas', 4)}",
        "sim-0 (simulated: nothing there is real)",
        "cygnus is offline",
    ):
        assert words in text


def test_programs_get_one_row_or_object_for_each_gpu() -> None:
    view = example_fleet()
    offers = free(view, Wish(model="h100"))
    said = json.loads(json.dumps(as_json(view, offers)))

    assert [len(offer["gpus"]) for offer in said["offers"]] == [3, 3]
    first = dict(zip(COLUMNS, rows(offers)[0], strict=True))
    assert (first["node"], first["index"], first["on_demand"]) == ("atlas", 4, False)


@pytest.mark.parametrize(
    ("text", "number"), [("40G", 40e9), ("24GiB", 24 * 2**30), ("1.5 tb", 1.5e12)]
)
def test_memory_is_written_as_people_write_it(text: str, number: float) -> None:
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["", "much", "-3G", "40X", "G", "40"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no amount of memory"):
        parse_bytes(text)


def test_offers_are_the_same_however_often_they_are_made() -> None:
    view = example_fleet()

    assert free(view, Wish()) == free(replace(view), Wish())
