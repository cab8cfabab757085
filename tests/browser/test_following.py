"""Pages of the past follow the stream: they ask when there is something new, and only then."""

from __future__ import annotations

import itertools
import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from gleaner.bus.messages import Event
from tests.browser.conftest import Open
from tests.browser.test_past import AXE, axe
from tests.recorder.builders import an_event
from tests.web.example import Example, gpu_id
from tests.web.recorded import a_run
from tests.web.site import Site

pytestmark = pytest.mark.browser

WITHOUT_WORKER = "delete window.SharedWorker"
HISTORY = "history?node=atlas"
_numbers = itertools.count(1)


@pytest.fixture
def site(site_with_past: Site) -> Site:
    """The web service with the example fleet and its past."""
    return site_with_past


def happened(kind: str, data: dict[str, Any], node: str = "atlas") -> Event:
    return an_event(
        next(_numbers),
        node=node,
        stream=f"{node}-following",
        kind=kind,
        data=data,
        at=datetime.now(UTC),
    )


def taken(user: str, node: str = "atlas") -> Event:
    """Return the event of a GPU that somebody took."""
    data = {
        "gpu": gpu_id(node, 0),
        "index": 0,
        "before": "idle",
        "state": "busy",
        "reasons": [f"{user} computes"],
        "holders": [{"pid": 1, "user": user}],
    }
    return happened("gpu", data, node)


def followed(open_page: Open, path: str, **options: Any) -> tuple[Page, list[str]]:
    """Open a page that follows the stream; return it with what it asks for from now on."""
    page = open_page(path, live=False, **options)
    expect(page.locator("#link[data-link=live]")).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    return page, asked


def expect_one_stream(page: Page, site: Site) -> None:
    """Those of the tests before end when the service notices."""
    end = time.monotonic() + 10
    while site.live.watchers != 1 and time.monotonic() < end:
        page.wait_for_timeout(50)
    assert site.live.watchers == 1


def test_what_happens_appears_where_it_fits_and_nobody_asks_for_the_rest(
    open_page: Open, site: Site
) -> None:
    page, asked = followed(open_page, f"{HISTORY}&user=zed", clock=True)
    expect(page.get_by_text("no user named 'zed' was ever recorded")).to_be_visible()
    page.clock.fast_forward("10:00")
    site.say(taken("zed", "boreas"))
    assert asked == []

    site.say(taken("zed"))

    expect(page.locator("tbody tr", has_text="zed computes")).to_have_count(1)
    assert asked == [f"{site.url}{HISTORY}&user=zed&part=history"]
    page.clock.fast_forward("10:00")
    expect(page.locator("#link")).to_contain_text("live")
    assert len(asked) == 1


def test_a_page_outlasts_a_restart_of_the_recorder(open_page: Open, site: Site) -> None:
    page, asked = followed(open_page, HISTORY)
    rows = page.locator("tbody[data-rows] tr")
    shown = rows.count()
    assert shown > 1

    site.lose_recorder()
    try:
        said = page.locator("#unanswered")
        expect(said).to_have_text(
            re.compile(
                r"^History does not answer\. What you see of it is from \d\d:\d\d:\d\d UTC\.$"
            )
        )
        expect(page.locator("#link")).to_contain_text("not live: as of")
        assert rows.count() == shown
        assert "not running" not in page.locator("body").inner_text()
        assert len(asked) == 1
    finally:
        site.bring_back_recorder()
    back = time.monotonic()

    expect(said).to_be_hidden()
    expect(page.locator("#link[data-link=live]")).to_be_visible()
    # Long before it would be asked without a word from the stream.
    assert time.monotonic() - back < 10
    assert rows.count() == shown


def test_a_page_opened_without_a_recorder_says_so_once_and_fills_as_it_comes(
    open_page: Open, site: Site
) -> None:
    site.lose_recorder()
    try:
        page, _ = followed(open_page, HISTORY)
        assert page.locator("body").inner_text().count("not running") == 1
        expect(page.locator("#unanswered")).to_be_hidden()
    finally:
        site.bring_back_recorder()

    expect(page.locator("tbody[data-rows] tr").first).to_be_visible(timeout=10_000)
    assert "not running" not in page.locator("body").inner_text()


def test_the_end_of_a_run_appears_in_its_row(open_page: Open, site: Site) -> None:
    page, _ = followed(open_page, f"{HISTORY}&what=runs")
    now = datetime.now(UTC)
    run = a_run(1, now) | {"run": "live-1", "entry": "alive"}
    row = page.locator("tbody tr", has_text="alive")

    site.say(happened("run", run | {"state": "running", "stages": None, "reason": "granted"}))
    expect(row.locator("b")).to_have_text("running")

    site.say(happened("run", run))
    expect(row.locator("b")).to_have_text("evicted")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("640 ms")


def test_who_reads_further_down_is_told_and_not_moved(open_page: Open, site: Site) -> None:
    page, _ = followed(open_page, HISTORY)
    row = page.locator(".happening tbody tr").nth(40)
    row.evaluate("row => { row.scrollIntoView(); window.row = row }")
    place = "window.row.getBoundingClientRect().top"
    before = page.evaluate(place)

    for user in ("uma", "udo", "ute"):
        site.say(taken(user))

    expect(page.locator("#newer a")).to_have_text("3 new events")
    assert page.evaluate(place) == before
    page.locator("#newer a").click()
    expect(page.locator(".happening tbody tr").first).to_contain_text("ute computes")
    expect(page.locator("#newer a")).to_be_hidden()


def test_who_comes_back_to_the_top_sees_what_is_new(open_page: Open, site: Site) -> None:
    page, _ = followed(open_page, HISTORY)
    page.evaluate("scrollTo(0, 3000)")
    site.say(taken("ida"))
    expect(page.locator("#newer a")).to_have_text("1 new event")

    page.evaluate("scrollTo(0, 0)")

    expect(page.locator(".happening tbody tr").first).to_contain_text("ida computes")


def test_who_turned_to_older_events_is_told_of_new_ones(open_page: Open, site: Site) -> None:
    page, _ = followed(open_page, HISTORY)
    # It has to know what was there before something comes.
    with page.expect_response(re.compile("part=history$")):
        page.get_by_role("link", name="Older").click()
    rows = page.locator(".happening tbody")
    before = rows.inner_text()

    site.say(taken("una"))

    expect(page.locator("#newer a")).to_have_text("1 new event")
    assert rows.inner_text() == before
    page.locator("#newer a").click()
    expect(page).to_have_url(re.compile(r"history\?node=atlas$"))
    expect(page.locator(".happening tbody tr").first).to_contain_text("una computes")


def test_a_gpu_shows_what_it_reads_now(open_page: Open, site: Site) -> None:
    page, asked = followed(open_page, "node/atlas/gpu/0?range=week")
    example = Example(datetime.now(UTC))
    readings = page.locator("#readings")

    site.say(example.telemetry("atlas", [(12, 5, 40, 90)] * 8, 80))
    expect(readings).to_contain_text("Utilization 12 %", use_inner_text=True)

    eve = example.holder(1, "eve", "python bench.py", 2**30, seconds=1)
    site.say(example.state("atlas", 0, "busy", "eve computes (pid 1)", eve, seconds=0))
    expect(page.locator("#processes")).to_contain_text("python bench.py")
    expect(page.locator("#now")).to_contain_text("eve · python bench.py")
    assert {url.rpartition("part=")[2] for url in asked} == {"now"}


@pytest.mark.parametrize("path", ["node/atlas?range=week", "node/atlas/gpu/0?range=week"])
def test_what_happened_is_listed_where_it_happened(open_page: Open, site: Site, path: str) -> None:
    page, _ = followed(open_page, path)

    site.say(taken(f"tom{len(path)}"))

    expect(page.locator("#happened li").first).to_contain_text(f"tom{len(path)} computes")


def test_a_storm_costs_a_few_questions_a_second_however_many_look(
    open_page: Open, site: Site
) -> None:
    pages = [followed(open_page, "history?node=boreas")[0] for _ in range(3)]
    questions = site.questions_from_now()
    begin = time.monotonic()
    for number in range(500):
        site.say(taken(f"gus{number}", "boreas"))

    for page in pages:
        expect(page.locator("tbody tr", has_text="gus499 ")).to_have_count(1)
    # Told once a second; a second answer where the stream went on between those who ask.
    assert len(questions) <= 4 * (time.monotonic() - begin + 2)


def test_use_is_summed_up_anew_when_there_are_samples_but_in_no_hurry(
    open_page: Open, site: Site
) -> None:
    page, asked = followed(open_page, "usage?range=week", clock=True)

    site.say(happened("samples", {"samples": []}, "boreas"))
    page.clock.fast_forward(30_000)
    assert asked == []

    with page.expect_request(re.compile("part=usage$")):
        page.clock.fast_forward(30_000)


def test_all_pages_of_a_browser_share_one_stream(open_page: Open, site: Site) -> None:
    page, _ = followed(open_page, HISTORY)
    for path in ("", "node/atlas", "node/atlas/gpu/0", "usage"):
        other = page.context.new_page()
        other.goto(site.url + path)
        expect(other.locator("#link[data-link=live]")).to_be_visible()

    expect_one_stream(page, site)


@pytest.mark.parametrize("path", ["node/atlas", "node/atlas/gpu/0"])
def test_without_a_shared_worker_a_page_has_one_stream(
    open_page: Open, site: Site, path: str
) -> None:
    page, _ = followed(open_page, path, before=WITHOUT_WORKER)

    site.say(taken(f"tim{len(path)}"))

    expect(page.locator("#happened li").first).to_contain_text(f"tim{len(path)} computes")
    expect_one_stream(page, site)


def test_where_the_stream_is_kept_back_it_is_said_and_asked_now_and_then(
    open_page: Open, site: Site
) -> None:
    page = open_page(HISTORY, live=False, clock=True, before=WITHOUT_WORKER)
    page.route("**/events", lambda route: route.abort())
    page.reload()
    expect(page.locator("#link")).to_contain_text("not live: as of")
    expect(page.locator("#lost")).to_contain_text("may no longer be true")

    row = page.locator(".happening tbody tr", has_text="ada computes")
    site.say(taken("ada"))
    end = time.monotonic() + 10
    while not row.count() and time.monotonic() < end:
        page.clock.fast_forward("00:15")
        page.wait_for_timeout(100)

    expect(row).to_have_count(1)
    expect(page.locator("#link")).to_contain_text("not live: as of")
    complaints: list[str] = open_page.complaints  # type: ignore[attr-defined]
    assert all("ERR_" in one for one in complaints)
    complaints.clear()


def test_what_an_address_asks_for_in_vain_is_told_until_it_is_changed(open_page: Open) -> None:
    page = open_page("?state=sleepy&gpus=many")
    told = page.locator("#misread")
    expect(told).to_contain_text("There is no state 'sleepy'; there are idle, busy")
    expect(told).to_contain_text("'many' is no number of GPUs from 1 to 64")

    page.locator("select[name=state]").select_option("held")

    expect(told).to_have_count(0)
    expect(page.locator("a.tile")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page: Open, site: Site, scheme: str) -> None:
    page, _ = followed(open_page, f"{HISTORY}&kind=none", color_scheme=scheme, bypass_csp=True)
    expect(page.locator("#misread")).to_contain_text("There is no kind of event 'none'")
    page.evaluate("scrollTo(0, 3000)")
    site.say(taken(f"pia-{scheme}"))
    expect(page.locator("#newer a")).to_be_visible()
    page.add_script_tag(path=AXE)

    assert axe(page) == []
    page.locator("#newer a").click()
    expect(page.locator("tr.arrived", has_text=f"pia-{scheme}")).to_be_visible()
    assert axe(page) == []
