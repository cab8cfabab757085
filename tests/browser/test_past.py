"""The pages behind the first one in a real browser, on a real recorder with some days of data."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from gleaner.bus.messages import Event
from services.web.pages import FOLDER
from tests.browser.conftest import Open
from tests.recorder.builders import an_event
from tests.web.example import MARKUP, gpu_id
from tests.web.site import Site

pytestmark = pytest.mark.browser

AXE = Path(FOLDER, "frontend", "node_modules", "axe-core", "axe.min.js")
GPU, NODE = "node/atlas/gpu/0?range=week", "node/atlas?range=week"
PAGES = (NODE, GPU, "usage?range=week", "history", "history?what=runs")


@pytest.fixture
def site(site_with_past: Site) -> Site:
    """The web service with the example fleet and its past."""
    return site_with_past


def opened(open_page: Open, path: str, **options: Any) -> Page:
    page = open_page(path, live=False, **options)
    expect(page.locator("h1")).to_be_visible()
    return page


def drawn(page: Page) -> int:
    """Return how many charts the script has drawn."""
    expect(page.locator(".plot canvas").first).to_be_visible()
    expect(page.locator(".plot > svg")).to_have_count(0)
    return page.locator(".plot canvas").count()


def happened(number: int, user: str) -> Event:
    return an_event(
        number,
        node="sim-0",
        stream="sim-0-live",
        kind="gpu",
        data={
            "gpu": gpu_id("sim-0", 0),
            "index": 0,
            "before": "idle",
            "state": "busy",
            "reasons": [f"{user} computes"],
        },
        at=datetime.now(UTC),
    )


def axe(page: Page) -> list[object]:
    """Return what axe-core finds that is at least moderate."""
    found = page.evaluate("axe.run()")["violations"]
    return [
        (one["id"], one["impact"], [node["html"][:200] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in ("serious", "critical", "moderate")
    ]


def test_a_gpu_has_its_charts_and_their_numbers(open_page: Open) -> None:
    page = opened(open_page, GPU)

    assert drawn(page) == 5
    expect(page.get_by_text("A point stands for 30 min")).to_contain_text("gap")
    expect(page.get_by_role("img", name=re.compile("^Utilization 2.* mean"))).to_be_visible()
    page.get_by_text("These charts as a table").click()
    expect(page.get_by_role("table", name=re.compile("Readings of GPU 0"))).to_contain_text("busy")
    page.get_by_role("link", name="Year").click()
    expect(page).to_have_url(re.compile("range=year#past$"))
    expect(page.get_by_text("A point stands for 1 day")).to_be_visible()
    assert drawn(page) == 5


def test_a_node_is_live_above_and_has_its_past_below(open_page: Open) -> None:
    page = open_page(NODE)

    assert drawn(page) == 11
    expect(page).to_have_title("atlas – Gleaner")
    page.locator("#past").get_by_role("link", name="GPU 5").click()
    expect(page.locator("h1")).to_contain_text("GPU 5 of atlas")


def test_a_host_has_its_charts_and_their_numbers(open_page: Open) -> None:
    page = open_page(NODE)
    host = page.get_by_role("region", name="The host")

    expect(host.locator(".plot canvas")).to_have_count(6)
    for chart in ("CPU", "Load over a minute", "Memory", "Fullest disk", "Network in"):
        expect(host.get_by_role("img", name=re.compile(f"^{chart} 2.* mean"))).to_be_visible()
    expect(host.get_by_text("A point stands for 30 min")).to_contain_text("1 gap")
    host.get_by_text("These charts as a table").click()
    table = host.get_by_role("table", name=re.compile("Readings of the host of atlas"))
    expect(table.get_by_role("columnheader")).to_have_count(7)
    expect(table).to_contain_text("Network in, MB/s")
    with page.expect_download() as download:
        host.get_by_role("link", name="CSV").click()
    assert ",cpu_percent," in download.value.path().read_text().splitlines()[0]
    page.get_by_role("link", name="Year").click()
    expect(host.get_by_text("A point stands for 1 day")).to_be_visible()
    expect(host.locator(".plot canvas")).to_have_count(6)


def test_without_script_the_same_is_there(open_page: Open) -> None:
    for path in PAGES:
        page = opened(open_page, path, java_script_enabled=False)
        if "history" not in path:
            assert page.locator(".plot svg :is(path, rect)").count() > 3
            page.get_by_text(re.compile("chart.* as a table")).last.click()
            expect(page.locator("details.data table").last).to_be_visible()


def test_use_is_shown_for_the_range_in_the_address(open_page: Open) -> None:
    page = opened(open_page, "usage?range=week")
    assert drawn(page) == 1
    users = page.get_by_role("region", name="By user")
    expect(users).to_contain_text("alice")
    expect(users).to_contain_text(MARKUP)
    expect(page.locator(".quiet-times")).to_contain_text("% busy")

    page.get_by_label("From").fill("2026-01-01")
    page.get_by_label("to", exact=True).fill("2026-01-31")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("since=2026-01-01&until=2026-01-31"))
    expect(page.get_by_role("region", name="Nothing to show")).to_contain_text("in this time")
    expect(users).to_have_count(0)

    page.go_back()
    with page.expect_download() as download:
        page.get_by_role("region", name="By user").get_by_role("link", name="CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert lines[0].startswith("user,entry,gpu_hours")
    assert any(line.startswith("alice,") for line in lines)


def test_use_of_one_person_on_one_node_is_a_filter_away(open_page: Open) -> None:
    page = opened(open_page, "usage?range=week")
    expect(page.get_by_role("region", name="By user")).to_contain_text("GiB·h")

    form = page.get_by_role("form", name="Filter")
    form.get_by_label("Node").select_option("atlas")
    form.get_by_label("User").fill("alice")
    form.get_by_role("button").click()

    expect(page.locator("h1")).to_have_text("Usage by alice on atlas")
    expect(page.get_by_role("region", name="By user").locator("tbody tr")).to_have_count(1)
    expect(page.locator(".week .heat[data-level='10']").first).to_be_visible()
    expect(page.locator(".keeping")).to_contain_text("events since")


def test_what_happens_appears_by_itself_and_nothing_that_is_typed_is_lost(
    open_page: Open, site: Site
) -> None:
    page = opened(open_page, "history")
    user = page.get_by_label("User")
    user.fill("ali")

    site.say(happened(1, "zoe"))

    expect(page.locator("tbody tr").filter(has_text="zoe computes")).to_be_visible()
    expect(user).to_have_value("ali")
    user.fill("alice")
    user.press("Enter")
    expect(page).to_have_url(re.compile("user=alice"))
    expect(page.locator(".happening tbody tr").first).to_contain_text("alice computes")
    expect(page.locator(".happening")).not_to_contain_text("zoe")


def test_older_pages_are_turned_and_stay_as_they_are(open_page: Open) -> None:
    page = opened(open_page, "history?node=atlas")
    first = page.locator(".happening tbody tr")
    expect(first).to_have_count(100)

    page.get_by_role("link", name="Older").click()

    expect(page.get_by_role("link", name="Newest")).to_be_visible()
    assert first.count() < 100


def test_what_somebody_opened_stays_open_when_a_chart_gets_its_next_point(
    open_page: Open, site: Site
) -> None:
    page = opened(open_page, GPU, clock=True)
    assert drawn(page) == 5
    expect(page.locator("#link[data-link=live]")).to_be_visible()
    page.get_by_text("These charts as a table").click()
    page.evaluate("document.querySelector('canvas').wasHere = true")

    site.say(an_event(1, node="atlas", stream="opened", kind="samples", data={"samples": []}))
    with page.expect_response(re.compile("part=charts")):
        page.clock.fast_forward("01:00:00")

    expect(page.locator("details.data[open]")).to_have_count(1)
    assert page.evaluate("document.querySelector('canvas').wasHere")
    assert drawn(page) == 5


def test_pages_are_reached_by_keyboard(open_page: Open) -> None:
    page = opened(open_page, "usage")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    for name in ("Gleaner", "Now", "Usage", "History"):
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_text(name)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/history$"))
    expect(page.get_by_role("link", name="History", exact=True)).to_have_attribute(
        "aria-current", "page"
    )


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_serious(open_page: Open, path: str) -> None:
    page = opened(open_page, path, color_scheme="light", bypass_csp=True)
    if "history" not in path:
        drawn(page)
    page.add_script_tag(path=AXE)

    assert axe(page) == []
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 900})
    assert axe(page) == []


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_wider_than_the_screen(open_page: Open, path: str) -> None:
    page = opened(open_page, path)
    if "history" not in path:
        drawn(page)
    for width in (3840, 1400, 800, 390, 320):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(f"innerWidth === {width}")

        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("path", PAGES)
def test_on_a_phone_tables_are_read_without_scrolling_them_sideways(
    open_page: Open, path: str
) -> None:
    page = opened(open_page, path, viewport={"width": 390, "height": 900})

    # What stands behind "as a table" is every number of a chart.
    wide = page.locator(".scroll:visible").evaluate_all(
        "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth).map(box => box.outerHTML)"
    )
    assert wide == []
    for choice in page.locator(".ranges nav ul").all():
        tops = choice.locator("li").evaluate_all("all => all.map(one => one.offsetTop)")
        assert len(set(tops)) == 1
    if "usage" in path:
        table = page.get_by_role("table", name="").first
        assert table.get_by_role("row").count() > 1
        assert page.get_by_role("columnheader", name="GPU-hours", include_hidden=True).count() > 0


def test_only_pages_with_charts_load_the_charts(open_page: Open) -> None:
    page = opened(open_page, "history")

    assert page.locator("script[src*=charts]").count() == 0
    assert page.locator("script[src*=past]").count() == 1
