"""The page in a real browser: live, usable by keyboard and on a phone, honest when cut off."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from services.web.pages import FOLDER
from tests.browser.conftest import Open
from tests.web.example import MARKUP, Example
from tests.web.site import Site

pytestmark = pytest.mark.browser

AXE = Path(FOLDER, "frontend", "node_modules", "axe-core", "axe.min.js")


def now() -> Example:
    return Example(datetime.now(UTC))


def visible_words(page: Page) -> list[str]:
    """Return what is to be read, ages aside: they go on."""
    text = page.locator("main").inner_text()
    text = re.sub(r"\b(\d+ (s|min|h|d)\b ?)+", "AGE ", text)
    return text.split()


def test_a_change_shows_within_a_moment_and_without_reload(open_page: Open, site: Site) -> None:
    page = open_page()
    page.evaluate("window.wasHere = true")
    expect(page.locator("h1")).to_have_text("10 of 23 GPUs free")
    tile = page.locator("a.tile[href='#atlas-GPU-atlas-0004']")
    expect(tile).to_contain_text("idle")

    eve = now().holder(1, "eve", "python bench.py", 2**30, seconds=1)
    site.say(now().state("atlas", 4, "busy", "eve computes (pid 1)", eve, seconds=0))

    expect(tile).to_contain_text("eve · python bench.py", timeout=1000)
    expect(page.locator("h1")).to_have_text("9 of 23 GPUs free")
    assert page.title() == "9 of 23 GPUs free – Gleaner"
    assert page.evaluate("window.wasHere")


def test_readings_move(open_page: Open, site: Site) -> None:
    page = open_page()
    tile = page.locator("a.tile[href='#atlas-GPU-atlas-0000']")
    expect(tile).to_have_attribute("data-fill", "10")

    site.say(now().telemetry("atlas", [(12, 5, 40, 90)] * 8, 80))

    expect(tile).to_contain_text("12 %")
    expect(tile).to_have_attribute("data-fill", "2")
    row = page.locator("[id='atlas-GPU-atlas-0000']")
    expect(row).to_contain_text("40 °C")


def test_script_and_server_draw_the_same_words(open_page: Open) -> None:
    drawn = open_page()
    served = open_page(live=False, java_script_enabled=False)

    # With script every change of the filter shows at once, so its button is not needed.
    served.locator(".filter button").evaluate("button => button.remove()")
    assert visible_words(served) == visible_words(drawn)


def test_pausing_the_fleet_by_keyboard_only(open_page: Open, site: Site) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the GPUs")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Pause…")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"

    page.keyboard.press("Enter")
    expect(page.locator("input[name=reason]:focus")).to_have_count(1)
    page.keyboard.type("new fans")
    page.keyboard.press("Enter")

    expect(page.locator("#answer")).to_have_text("pause: the fleet")
    expect(
        page.locator(".banner", has_text="The fleet is paused by olga: new fans")
    ).to_be_visible()
    assert (site.asked[0].node, site.asked[0].reason) == (None, "new fans")
    page.get_by_role("button", name="Resume the fleet").press("Enter")
    expect(page.locator(".banner", has_text="The fleet is paused")).to_have_count(0)


def test_a_node_is_paused_and_drained_by_its_own_buttons(open_page: Open, site: Site) -> None:
    page = open_page()
    atlas = page.locator("#node-atlas")
    atlas.get_by_text("Drain…").click()
    atlas.locator("details[open]").get_by_label("Reason").fill("moving")
    atlas.get_by_role("button", name="Drain atlas").click()
    expect(page.locator("#answer")).to_have_text("drain: atlas")

    atlas.get_by_text("Pause…").click()
    atlas.get_by_label("For").select_option("1 hour")
    atlas.get_by_role("button", name="Pause atlas").click()
    expect(atlas.locator(".banner", has_text="Paused by olga")).to_be_visible()

    assert [(one.kind.value, one.node, one.duration_seconds) for one in site.asked] == [
        ("drain", "atlas", None),
        ("pause", "atlas", 3600),
    ]


def test_a_refusal_and_a_silence_are_shown(open_page: Open, site: Site) -> None:
    page = open_page()
    for reason, text in (
        ("refuse me", "pause: the fleet"),
        ("nobody answers", "the scheduler did not answer within 1 s"),
    ):
        page.locator("section.answer").get_by_text("Pause…").click()
        page.locator("section.answer").get_by_label("Reason").fill(reason)
        page.get_by_role("button", name="Pause the fleet").click()
        expect(page.locator("#answer.bad")).to_have_text(text)
        page.keyboard.press("Escape")
    # The browser notes the two answers that are no success; nothing else.
    complaints: list[str] = open_page.complaints  # type: ignore[attr-defined]
    assert all("409" in one or "503" in one for one in complaints)
    complaints.clear()


def test_what_is_being_typed_survives_every_update(open_page: Open, site: Site) -> None:
    page = open_page()
    atlas = page.locator("#node-atlas")
    atlas.get_by_text("Drain…").click()
    reason = atlas.locator("details[open]").get_by_label("Reason")
    reason.fill("half a sen")

    for share in (1, 2, 3):
        site.say(
            now().state("atlas", 4, "busy", f"eve {share}", seconds=0),
            now().telemetry("atlas", [(share, 5, 40, 90)] * 8, 80),
        )
        expect(atlas.locator("tr", has_text=f"eve {share}").first).to_be_visible()

    expect(reason).to_be_focused()
    expect(reason).to_have_value("half a sen")


def test_the_page_of_an_unknown_node_says_so_and_asks_for_nothing_of_it(open_page: Open) -> None:
    page = open_page("node/nope", live=False)
    expect(page.locator("#link[data-link=live]")).to_be_visible()

    expect(page.get_by_role("heading", level=1)).to_have_text("nope is not known")
    asked = page.evaluate("performance.getEntriesByType('resource').map(one => one.name)")
    assert [url for url in asked if "last-hour" in url] == []
    # The browser tells of the page itself.
    complaints = open_page.complaints  # type: ignore[attr-defined]
    assert ["404" in text for text in complaints] == [True]
    complaints.clear()


def test_hostile_names_are_text(open_page: Open) -> None:
    page = open_page()

    assert MARKUP in page.locator("#node-boreas").inner_text()
    assert page.locator("main img").count() == 0


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_needs_no_sideways_scrolling(open_page: Open, width: int) -> None:
    page = open_page(viewport={"width": width, "height": 800})

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wider = page.evaluate(
        "w => [...document.querySelectorAll('main *')].filter(e => e.checkVisibility() && "
        "!e.closest('.unseen, thead') && e.getBoundingClientRect().right > w + 1)"
        ".map(e => e.outerHTML.slice(0, 120))",
        width,
    )
    assert wider == []


def test_a_screen_on_the_wall_is_filled_and_read_from_afar(open_page: Open) -> None:
    page = open_page(viewport={"width": 3840, "height": 2160})
    desk = open_page(viewport={"width": 1400, "height": 900})

    size = "parseFloat(getComputedStyle(document.querySelector('#part-grid b')).fontSize)"
    assert page.evaluate(size) >= 1.4 * desk.evaluate(size)
    assert page.evaluate("document.body.offsetWidth") > 3840 / 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 3840


def test_dark_mode_follows_the_system(open_page: Open) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        page = open_page(color_scheme=scheme)
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        grounds[scheme] = sum(int(part) for part in re.findall(r"\d+", color)[:3])

    assert grounds["light"] > 600
    assert grounds["dark"] < 120


def test_states_differ_by_word_and_symbol_too(open_page: Open) -> None:
    page = open_page()
    shown = page.evaluate(
        "[...document.querySelectorAll('a.tile')].map(e => [e.querySelector('b').textContent, "
        "e.querySelector('use').getAttribute('href')])"
    )

    symbols: dict[str, set[str]] = {}
    for word, symbol in shown:
        symbols.setdefault(word, set()).add(symbol)
    assert set(symbols) >= {"idle", "ours", "busy", "held", "dirty", "lost", "unknown", "offline"}
    assert all(len(found) == 1 for found in symbols.values())
    assert len({next(iter(found)) for found in symbols.values()}) == len(symbols)


def test_a_page_that_is_cut_off_says_so_and_comes_back(open_page: Open, site: Site) -> None:
    page = open_page()
    address = int(site.url.rsplit(":", 1)[1].strip("/"))

    site.stop()
    expect(page.locator("#link")).to_contain_text("not live: as of", timeout=8000)
    expect(page.locator("#lost")).to_contain_text("may no longer be true")
    assert "not-live" in (page.locator("body").get_attribute("class") or "")
    with Site(f"127.0.0.1:{address}"):
        expect(page.locator("#link")).to_contain_text("live · ", timeout=15000)
        expect(page.locator("body.not-live")).to_have_count(0)
        expect(page.locator("#lost")).to_be_hidden()
    complaints: list[str] = open_page.complaints  # type: ignore[attr-defined]
    assert all("ERR_" in one for one in complaints)
    complaints.clear()


def test_a_lost_broker_makes_everything_stale(open_page: Open, site: Site) -> None:
    page = open_page()

    site.lose_broker()

    expect(page.locator(".banner", has_text="This page has lost the broker")).to_be_visible()
    expect(page.locator("#node-atlas")).to_have_attribute("data-presence", "stale", timeout=15_000)
    expect(page.locator("a.tile.s-busy, a.tile.s-idle")).to_have_count(0)


def test_many_pages_share_one_stream(open_page: Open, site: Site) -> None:
    page = open_page()
    for _ in range(7):
        other = page.context.new_page()
        other.goto(site.url)
        other.wait_for_selector("#link[data-link=live]")

    assert site.live.watchers == 1


def test_a_hidden_page_lets_go_of_the_stream(open_page: Open, site: Site) -> None:
    page = open_page()
    assert site.live.watchers == 1

    page.goto("about:blank")

    end = time.monotonic() + 10
    while site.live.watchers and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert site.live.watchers == 0


def test_a_node_has_a_live_page_of_its_own(open_page: Open, site: Site) -> None:
    page = open_page("node/atlas")
    expect(page.locator("h1")).to_have_text("atlas: 3 of 8 GPUs free")
    expect(page.locator("main details.ask summary")).to_have_text(["Pause…", "Drain…"])
    site.say(now().state("atlas", 4, "busy", "eve", seconds=0))

    expect(page.locator("[id='atlas-GPU-atlas-0004'] .state")).to_have_text("busy")
    expect(page.locator("article.node")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_axe_finds_nothing_serious(open_page: Open, scheme: str, width: int) -> None:
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True)
    page.locator("#node-atlas").get_by_text("Pause…").click()
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run()")["violations"]

    serious = [
        (one["id"], one["impact"], [node["html"][:200] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in ("serious", "critical", "moderate")
    ]
    assert serious == []
