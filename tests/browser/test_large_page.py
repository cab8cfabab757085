"""The page of a large fleet: the server's HTML stays, and only what changed is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from gleaner.bus.messages import GpuCondition, GpuState
from services.web.pages import FOLDER
from tests.browser.conftest import Open
from tests.web.large import GPUS, LargeFleet, gpu_id
from tests.web.site import Site

pytestmark = pytest.mark.browser

AXE = Path(FOLDER, "frontend", "node_modules", "axe-core", "axe.min.js")
NODES = 60


@pytest.fixture
def site() -> Iterator[Site]:
    """The web service with more nodes than have cards."""
    with Site(large=LargeFleet(NODES)) as running:
        yield running


def tile(page: Page, node: str, index: int) -> str:
    return f"a.tile[href$='#{node}-{gpu_id(node, index)}']"


def lost(site: Site, node: str, index: int) -> GpuState:
    assert site.large is not None
    return site.large.state_of(node, index).model_copy(update={"state": GpuCondition.LOST})


def all_online(page: Page) -> None:
    expect(page.locator(".row[data-presence=online]")).to_have_count(NODES, timeout=15_000)


def test_the_servers_tiles_stay_and_a_change_touches_one(open_page: Open, site: Site) -> None:
    page = open_page()
    all_online(page)
    page.evaluate(
        "window.touched = []; new MutationObserver(list => window.touched.push("
        "...list.filter(one => one.attributeName === 'class').map(one => one.target.href)))"
        ".observe(document.getElementById('part-grid'), {attributes: true, subtree: true})"
    )
    place = page.locator(tile(page, "n0003", 2))
    handle = place.element_handle()
    before = page.locator("a.tile").count()

    site.say(lost(site, "n0003", 2))

    expect(place).to_have_class("tile s-lost")
    assert "lost" in (place.get_attribute("title") or "")
    assert page.evaluate("e => e.isConnected", handle)
    assert page.locator("a.tile").count() == before == NODES * GPUS
    touched = page.evaluate("window.touched")
    assert len(touched) == 1
    assert touched[0].endswith(gpu_id("n0003", 2))


def test_readings_change_the_fill_only(open_page: Open, site: Site) -> None:
    page = open_page()
    all_online(page)
    assert site.large is not None
    telemetry = site.large.telemetry("n0005")
    gpus = tuple(one.model_copy(update={"utilization_percent": 31.0}) for one in telemetry.gpus)

    site.say(telemetry.model_copy(update={"gpus": gpus}))

    expect(page.locator(tile(page, "n0005", 0))).to_have_attribute("data-fill", "4")
    expect(page.locator(tile(page, "n0005", 7))).to_have_attribute("data-fill", "4")


def test_a_large_fleet_is_filtered_without_asking_the_server(open_page: Open, site: Site) -> None:
    page = open_page()
    all_online(page)
    handle = page.locator(tile(page, "n0003", 2)).element_handle()

    page.get_by_label("Node").fill("n0003")
    expect(page.locator("#matches")).to_have_text(f"{GPUS} of {NODES * GPUS} match")
    expect(page.locator(".row:visible")).to_have_count(1)
    page.get_by_label("Node").fill("")
    expect(page.locator(".row:visible")).to_have_count(NODES)

    assert page.evaluate("e => e.isConnected", handle)


def test_a_filter_of_the_address_holds_when_the_page_becomes_live(
    open_page: Open, site: Site
) -> None:
    page = open_page("?node=n0003")
    expect(page.locator(".row:visible")).to_have_count(1)
    expect(page.locator("#matches")).to_have_text(f"{GPUS} of {NODES * GPUS} match")

    page.get_by_text("Show all").click()

    expect(page.locator(".row:visible")).to_have_count(NODES)
    names = page.locator(".row h3 a").all_inner_texts()
    assert names == sorted(names)


def test_users_and_held_gpus_are_listed_with_how_many_more(open_page: Open, site: Site) -> None:
    page = open_page()
    all_online(page)

    expect(page.locator("table.users tbody tr")).to_have_count(100)
    expect(page.locator("#part-users")).to_contain_text("more with less memory")
    expect(page.locator("table.held tbody tr").first).to_be_visible()


def test_axe_finds_nothing_serious_in_a_large_fleet(open_page: Open) -> None:
    page = open_page(bypass_csp=True)
    all_online(page)
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run()")["violations"]

    serious = [
        (one["id"], [node["html"][:200] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in ("serious", "critical", "moderate")
    ]
    assert serious == []
