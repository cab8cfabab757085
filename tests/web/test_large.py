"""A large fleet: a flood of changes goes out in slices, and the page is drawn from what is kept."""

from __future__ import annotations

import asyncio
import json
import re

from services.web.pages import Pages
from services.web.streaming import live
from tests.builders import until
from tests.web.conftest import Web
from tests.web.large import GPUS, LargeFleet

NODES = 120


async def heard(web: Web) -> LargeFleet:
    """Return a fleet of which everything is shown."""
    fleet = LargeFleet(NODES)
    fleet.clock = lambda: web.now
    await web.say([*fleet.facts(), *fleet.beats(fleet.nodes)])
    while web.live.flush():
        pass
    return fleet


async def test_a_flood_goes_out_in_slices_and_everything_arrives(web: Web) -> None:
    fleet = await heard(web)
    stream = web.live.events()
    await anext(stream)

    await web.say(fleet.everything_changes())
    slices = []
    while sum(map(len, slices)) < NODES:
        event = await asyncio.wait_for(anext(stream), 5)
        delta = json.loads(event.decode().splitlines()[2].removeprefix("data: "))
        slices.append([node["node"] for node in delta["nodes"]])

    assert max(map(len, slices)) <= live.SLICE_NODES
    assert sorted(node for found in slices for node in found) == fleet.nodes


async def test_overview_and_users_are_those_of_all_nodes_afterwards(web: Web) -> None:
    fleet = await heard(web)
    await web.say(fleet.everything_changes())
    await until(lambda: not web.live._dirty)

    snapshot = web.live.snapshot()
    gpus = [gpu for node in snapshot.nodes for gpu in node.gpus]
    processes = sum(one.run is None for gpu in gpus for one in gpu.holders)

    assert snapshot.overview.gpus == NODES * GPUS
    assert snapshot.overview.states["held"] == sum(gpu.state == "held" for gpu in gpus)
    assert snapshot.overview.free == sum(gpu.state in ("idle", "ours") for gpu in gpus)
    assert sum(one.n_procs for one in snapshot.users) == processes


async def test_a_row_that_is_kept_is_the_row_drawn_anew(web: Web) -> None:
    fleet = await heard(web)
    kept = Pages()
    kept.render(web.live.moment(), root="./", controls="open")
    await web.say([*(fleet.change() for _ in range(40)), *map(fleet.telemetry, fleet.nodes)])
    while web.live.flush():
        pass
    moment = web.live.moment()

    again = kept.render(moment, root="./", controls="open")

    assert again == Pages().render(moment, root="./", controls="open")
    assert len(re.findall('<a class="tile ', again)) == NODES * GPUS
    assert "\x00" not in again


async def test_without_script_a_large_fleet_is_filtered_too(web: Web) -> None:
    await heard(web)

    page = (await web.client.get("/?node=n0007&state=busy")).text
    busy = [
        gpu
        for node in web.live.snapshot().nodes
        for gpu in node.gpus
        if node.node == "n0007" and gpu.state == "busy"
    ]

    assert len(re.findall('<a class="tile s-busy"', page)) == len(busy)
    assert f"{len(busy)} of {NODES * GPUS} match" in page
