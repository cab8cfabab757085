"""What is free now: the best nodes first, and the line that leads there."""

from __future__ import annotations

import pytest

from gleaner import taking
from services.web.shown.overview import OFFERS
from services.web.shown.view import FreeModel
from tests.web.conftest import Web
from tests.web.example import H100


def of(web: Web, model: str) -> FreeModel:
    models = {one.model: one for one in web.live.moment().overview.free_models}
    return models[model]


async def test_idle_gpus_are_offered_before_those_on_demand(busy: Web) -> None:
    (offer,) = of(busy, "H100 80GB HBM3").offers

    assert (offer.name, offer.idle, offer.on_demand) == ("atlas", 1, 2)
    assert [index for _, index in offer.gpus] == [4, 2, 3]
    assert offer.host == "atlas.example.org"


async def test_what_is_simulated_leads_nowhere(busy: Web) -> None:
    (offer,) = of(busy, "Simulated H100").offers

    assert offer.simulated
    assert offer.host is None


async def test_few_nodes_are_offered_and_the_one_with_most_is_among_them(web: Web) -> None:
    example = web.example()
    for number in range(OFFERS + 3):
        node = f"n{number}"
        await web.say(
            [
                example.online(node),
                example.beat(node),
                example.inventory(node, H100, 8, 2**36, notices="fanotify"),
                example.state(node, 0, "idle", ""),
                example.state(node, 1, "idle", ""),
            ]
        )
    await web.say([example.online("big"), example.beat("big")])
    await web.say([example.inventory("big", H100, 8, 2**36, notices="fanotify")])
    await web.say(example.state("big", index, "ours", "") for index in range(8))

    model = of(web, "H100 80GB HBM3")

    assert (model.free, model.nodes) == (2 * (OFFERS + 3) + 8, OFFERS + 4)
    assert [one.name for one in model.offers] == ["n0", "n1", "n2", "big"]


def test_the_line_picks_by_uuid() -> None:
    assert (
        taking.command("h1.example.org", [("GPU-a", 0), ("GPU-b", 1)])
        == "ssh -t h1.example.org 'CUDA_VISIBLE_DEVICES=GPU-a,GPU-b exec $SHELL -l'"
    )


@pytest.mark.parametrize("gpu", ["minor-3", "GPU-'; rm -rf ~'", "GPU-$(id)", "GPU-a\n"])
def test_what_is_no_uuid_is_picked_by_index_and_never_stands_in_the_line(gpu: str) -> None:
    line = taking.command("h1", [(gpu, 3)])

    assert line == (
        "ssh -t h1 'CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=3 exec $SHELL -l'"
    )
    assert taking.command("h1", [(gpu, None)]) == "ssh h1"


def test_a_host_that_is_an_option_or_a_command_leads_nowhere() -> None:
    assert taking.ssh("-oProxyCommand=x") is None
    assert taking.ssh("h1; reboot") is None
    assert taking.ssh("10.0.0.5") == "ssh 10.0.0.5"
