"""The first page: what is free, the filters, who holds what and for how long, and the last hour."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, Page, expect

from gleaner.bus.messages import RecorderState
from tests.browser.conftest import Open
from tests.browser.prefix import Prefixed
from tests.web.example import Example
from tests.web.site import Site

pytestmark = pytest.mark.browser


def now() -> Example:
    return Example(datetime.now(UTC))


def tiles(page: Page) -> int:
    return page.locator("a.tile:visible").count()


def test_the_filters_of_the_address_hold_with_script_too(open_page: Open) -> None:
    page = open_page("?state=held")

    expect(page.locator("a.tile")).to_have_count(1)
    expect(page.locator("#matches")).to_have_text("1 of 23 match")
    expect(page.locator("article.node")).to_have_count(1)
    expect(page.locator("select[name=state]")).to_have_value("held")


def test_a_filter_works_at_once_and_stands_in_the_address(open_page: Open, site: Site) -> None:
    page = open_page()
    page.evaluate("window.wasHere = true")

    page.get_by_label("User").fill("alice")
    expect(page.locator("a.tile")).to_have_count(2)
    page.get_by_label("Model").select_option("H100 80GB HBM3")
    expect(page.locator("#matches")).to_have_text("2 of 23 match")
    assert page.url == f"{site.url}?model=H100+80GB+HBM3&user=alice"
    assert page.evaluate("window.wasHere")

    page.get_by_text("Show all").click()
    expect(page.locator("a.tile")).to_have_count(23)
    assert page.url == site.url


def test_who_comes_is_found_by_a_filter_that_stands(open_page: Open, site: Site) -> None:
    page = open_page("?user=eve")
    expect(page.locator("a.tile")).to_have_count(0)

    eve = now().holder(1, "eve", "python bench.py", 2**30, seconds=1)
    site.say(now().state("atlas", 4, "busy", "eve computes (pid 1)", eve, seconds=0))

    expect(page.locator("a.tile")).to_have_count(1)
    expect(page.locator("#matches")).to_have_text("1 of 23 match")


def test_the_line_for_free_gpus_is_copied(open_page: Open) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])

    page.get_by_label("Copy the command for Boreas").press("Enter")

    expect(page.locator("#copied")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == (
        "ssh -t boreas.example.org 'CUDA_VISIBLE_DEVICES=GPU-boreas-0001 exec $SHELL -l'"
    )


def test_as_many_gpus_as_are_needed_are_offered(open_page: Open, site: Site) -> None:
    page = open_page()
    page.get_by_label("GPUs needed").fill("3")

    offer = page.locator(".offers li", has_text="Boreas")
    offer.locator("summary").click()
    expect(offer.locator("code")).to_contain_text(
        "CUDA_VISIBLE_DEVICES=GPU-boreas-0001,GPU-boreas-0002,GPU-boreas-0003 exec"
    )
    page.get_by_label("GPUs needed").fill("4")
    expect(page.locator(".models > li", has_text="A100")).to_contain_text("none with 4 on one node")
    assert page.url == f"{site.url}?gpus=4"


def test_held_gpus_say_who_since_when_and_how_much_was_wasted(open_page: Open) -> None:
    page = open_page()

    row = page.locator("table.held tbody tr")
    expect(row).to_have_count(1)
    for text in ("atlas:5", "bob", "38.00 GiB", "5 h 0 min", "5.0"):
        expect(row).to_contain_text(text)
    row.get_by_role("link").click()
    assert page.url.endswith("#atlas-GPU-atlas-0005")


def test_users_are_listed_by_memory_and_lead_to_their_gpus(open_page: Open) -> None:
    page = open_page()
    names = page.locator("table.users tbody th").all_inner_texts()

    assert names[:2] == ["alice", "bob"]
    expect(page.locator("table.users tbody tr").first).to_contain_text("124.00 GiB")
    page.locator("table.users").get_by_role("link", name="alice").click()
    expect(page.locator("a.tile")).to_have_count(2)


def test_a_process_tells_more_to_the_mouse_and_to_the_keyboard(open_page: Open) -> None:
    page = open_page()
    chip = page.locator("[id='atlas-GPU-atlas-0000'] .chip")
    expect(chip).to_contain_text("4711@alice (78%)")
    tip = chip.locator(".tip")
    expect(tip).to_be_hidden()

    chip.hover()
    expect(tip).to_be_visible()
    page.mouse.move(0, 0)
    expect(tip).to_be_hidden()
    chip.focus()
    expect(tip).to_be_visible()
    for text in ("python train.py", "62.0 GiB", "started "):
        expect(tip).to_contain_text(text)


def test_a_dead_process_is_said_to_be_so_unless_it_has_next_to_nothing(
    open_page: Open, site: Site
) -> None:
    page = open_page()
    alive = now().holder(30, "eve", "python worker.py", 2**30, seconds=1)
    dead = now().holder(31, "", "", 2**33, seconds=1)
    dead = dead.model_copy(update={"alive": False, "user": None, "user_id": None, "command": None})
    little = dead.model_copy(update={"pid": 32, "memory_used_bytes": 2**20})

    site.say(now().state("atlas", 4, "busy", "eve", alive, dead, little, seconds=0))

    cell = page.locator("[id='atlas-GPU-atlas-0004'] td.who")
    expect(cell).to_contain_text("31@unknown (10%) probably dead")
    expect(cell).not_to_contain_text("32@")
    cell.locator(".chip.dead").focus()
    expect(cell.locator(".chip.dead .tip")).to_contain_text("alive here: 30")


def test_the_last_hour_is_a_line(open_page: Open, site: Site) -> None:
    site.say(now().telemetry("atlas", [(12, 5, 40, 90)] * 8, 80))
    page = open_page()

    line = page.locator("[id='atlas-GPU-atlas-0001'] svg.spark")
    expect(line).to_have_attribute("role", "img")
    assert "utilization in the last hour" in (line.get_attribute("aria-label") or "")
    # In the place of this minute, or of the one that has just passed.
    assert re.match("M5[89] ", line.locator("path").get_attribute("d") or "")


def test_host_and_memory_that_nobody_has_are_shown_with_their_thresholds(
    open_page: Open, site: Site
) -> None:
    page = open_page()
    telemetry = now().telemetry("atlas", [(12, 5, 40, 90)] * 8, 80)
    host = telemetry.host.model_copy(
        update={"cpu_count": 4, "load_1_minute": 8.0, "memory_used_bytes": 256 * 2**30}
    )
    gpus = tuple(
        one.model_copy(update={"unattributed_memory_bytes": 3 * 2**30}) for one in telemetry.gpus
    )

    site.say(telemetry.model_copy(update={"host": host, "gpus": gpus}))

    facts = page.locator("#node-atlas .facts")
    expect(facts.locator(".level.high")).to_have_text("200 % ▲")
    expect(facts).to_contain_text("50 % 256 / 512 GiB")
    expect(page.locator("[id='atlas-GPU-atlas-0001']")).to_contain_text("3.0 GiB by nobody known")


def test_labels_are_shown_and_can_be_chosen(open_page: Open, site: Site) -> None:
    page = open_page("?label=nvlink")

    expect(page.locator("a.tile")).to_have_count(8)
    expect(page.locator("#node-atlas .facts")).to_contain_text("nvlink, lab-a")


def test_everything_works_below_the_prefix_of_a_proxy(browser: Browser, site: Site) -> None:
    port = int(site.url.rsplit(":", 1)[1].strip("/"))
    with Prefixed(port) as proxy:
        context = browser.new_context()
        failed: list[str] = []
        context.on("response", lambda one: failed.append(one.url) if not one.ok else None)
        page = context.new_page()
        page.goto(f"{proxy.url}?refresh=x")
        page.wait_for_selector("#link[data-link=live]")
        page.get_by_label("User").fill("alice")
        expect(page.locator("a.tile")).to_have_count(2)
        assert page.url == f"{proxy.url}?user=alice"

        page.locator("#node-atlas").get_by_text("Drain…").click()
        page.get_by_role("button", name="Drain atlas").click()
        expect(page.locator("#answer")).to_have_text("drain: atlas")
        page.locator("#node-atlas h2 a").click()
        page.wait_for_selector("main[data-live]")
        assert page.url == f"{proxy.url}node/atlas"
        assert failed == []
        context.close()


def test_what_is_wrong_with_history_appears_and_goes_by_itself(open_page: Open, site: Site) -> None:
    page = open_page()
    full = RecorderState(database="sqlite", problem="disk is full", at=datetime.now(UTC))

    site.say(full)
    problem = page.locator("#part-answer .banner.warn")
    expect(problem).to_contain_text("Nothing is recorded")

    site.say(full.model_copy(update={"problem": None}))
    expect(problem).to_have_count(0)
