"""The exported page in a real browser without script: by mouse, by keyboard, on a phone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from gleaner.cli.now.export_site import write
from services.web.pages import FOLDER
from tests.builders import NOW
from tests.cli.fleets import example_fleet
from tests.web.example import MARKUP

pytestmark = pytest.mark.browser

AXE = Path(FOLDER, "frontend", "node_modules", "axe-core", "axe.min.js")
SERIOUS = ("moderate", "serious", "critical")
EVERY_SECONDS = 300
Look = Callable[..., Page]


@pytest.fixture
def look(browser: Browser, tmp_path: Path) -> Iterator[Look]:
    """Open the exported example fleet from the disk; nothing but its own file is asked for."""
    write(tmp_path, example_fleet(), every_seconds=EVERY_SECONDS)
    contexts: list[BrowserContext] = []
    requests: list[str] = []

    def open_it(later: timedelta = timedelta(seconds=30), **options: object) -> Page:
        given = {
            "java_script_enabled": False,
            "viewport": {"width": 1400, "height": 900},
            **options,
        }
        context = browser.new_context(**given)  # type: ignore[arg-type]
        contexts.append(context)
        context.on("request", lambda request: requests.append(request.url))
        page = context.new_page()
        page.clock.install(time=NOW + later)
        page.goto((tmp_path / "index.html").as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert {url for url in requests if not url.startswith("data:")} == {
        (tmp_path / "index.html").as_uri()
    }


def test_users_and_memory_are_there_by_mouse_by_keyboard_and_as_text(look: Look) -> None:
    page = look()
    row = page.locator("article", has_text="atlas").locator("tbody tr").first
    expect(row).to_contain_text("alice")
    expect(row.get_by_role("tooltip")).to_be_hidden()

    row.locator(".state").hover()
    expect(row.get_by_role("tooltip")).to_contain_text("Memory: 63,898 MiB (78 %)")

    page.mouse.move(0, 0)
    expect(row.get_by_role("tooltip")).to_be_hidden()
    page.keyboard.press("Tab")
    expect(row.get_by_role("tooltip")).to_contain_text("alice")


def test_free_is_green_occupied_red_and_ours_neither(look: Look) -> None:
    page = look(java_script_enabled=True)

    def colour(word: str) -> list[int]:
        style = "getComputedStyle(node).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
        found = page.locator(f"tbody .state.{word}").first
        return list(found.evaluate(f"node => {style}"))

    red, green, blue = colour("free")
    assert green > red
    assert green > blue
    red, green, blue = colour("occupied")
    assert red > green
    assert red > blue
    red, green, blue = colour("on-demand")
    assert blue > red
    assert blue > green


def test_a_phone_shows_everything_without_scrolling_sideways(look: Look) -> None:
    page = look(viewport={"width": 360, "height": 740}, java_script_enabled=True)

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    expect(page.locator("article", has_text="atlas").locator("tbody tr").first).to_contain_text(
        "alice"
    )


def test_a_hostile_name_is_text(look: Look) -> None:
    page = look()

    expect(page.locator("td.users", has_text=MARKUP)).to_be_visible()
    assert page.locator("img").count() == 0


def test_a_page_that_nobody_writes_any_more_is_not_current(look: Look) -> None:
    page = look(java_script_enabled=True)
    free = page.locator("tbody .state.free").first
    background = "node => getComputedStyle(node).backgroundColor"
    colour = free.evaluate(background)
    expect(page.locator(".written")).to_contain_text(re.compile(r"\(\d+ s ago\), and again each 5"))
    expect(page.get_by_text("Nothing here is current")).to_be_hidden()

    page.clock.fast_forward("12:00")

    expect(page.locator(".written")).to_contain_text("(12 min ago)")
    expect(page.get_by_text("Nothing here is current")).to_be_visible()
    assert free.evaluate(background) != colour


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(look: Look, scheme: str) -> None:
    page = look(java_script_enabled=True, color_scheme=scheme)
    page.add_script_tag(path=AXE)

    # The reload is what a page without script has instead of a stream; axe advises against any.
    options = "{rules: {'meta-refresh': {enabled: false}}}"
    found = page.evaluate(f"axe.run({options}).then(found => found.violations)")

    assert [one["id"] for one in found if one["impact"] in SERIOUS] == []
