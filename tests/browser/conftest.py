"""A browser, and a page on the example fleet that notes everything it should not do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from services.web.pages import Pages
from tests.browser.chromium import start
from tests.web.recorded import recorder_in
from tests.web.site import Site

Open = Callable[..., Page]
expect.set_options(timeout=10_000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium with a fresh profile."""
    assert Pages().script() is not None, "the front end is not built: npm run build"
    with sync_playwright() as playwright:
        chromium = start(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def site_with_past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The web service with the example fleet and some days of its past; one for all tests."""
    with Site(recorder=recorder_in(tmp_path_factory.mktemp("recorder"))) as running:
        yield running


@pytest.fixture
def site() -> Iterator[Site]:
    """The web service with the example fleet."""
    with Site() as running:
        yield running


@pytest.fixture
def open_page(browser: Browser, site: Site) -> Iterator[Open]:
    """Open pages; at the end: no request left the origin, and the console stayed empty."""
    contexts: list[BrowserContext] = []
    requests: list[str] = []
    complaints: list[str] = []

    def open_it(
        path: str = "", *, live: bool = True, clock: bool = False, before: str = "", **options: Any
    ) -> Page:
        """With `clock` its time can be told to go on, with `before` a script runs first."""
        context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
        contexts.append(context)
        context.on("request", lambda request: requests.append(request.url))
        if before:
            context.add_init_script(before)
        page = context.new_page()
        if clock:
            page.clock.install()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(site.url + path)
        if live:
            page.wait_for_selector("#link[data-link=live]")
            page.wait_for_selector("main[data-live]")
        return page

    open_it.complaints = complaints  # type: ignore[attr-defined]
    yield open_it
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(site.url)] == []
