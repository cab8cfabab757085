"""Take pictures of the example fleet and of a large one: `python -m tests.browser.look FOLDER`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.chromium import start
from tests.web.large import LargeFleet
from tests.web.site import Site


def main(folder: Path) -> None:
    """Take the page wide, on a phone, and dark."""
    folder.mkdir(parents=True, exist_ok=True)
    with Site() as site, sync_playwright() as playwright:
        browser = start(playwright)
        site.draco_is_silent = True
        time.sleep(11)  # until it is stale
        for name, width, scheme, script in (
            ("wide", 1600, "light", True),
            ("dark", 1400, "dark", True),
            ("phone", 390, "light", True),
            ("phone-dark", 390, "dark", True),
            ("no-script", 1400, "light", False),
        ):
            context = browser.new_context(
                viewport={"width": width, "height": 900},
                color_scheme=scheme,  # type: ignore[arg-type]
                java_script_enabled=script,
                device_scale_factor=1,
            )
            page = context.new_page()
            page.on("console", lambda message: print(message.text))
            page.on("pageerror", lambda error: print(error))
            page.goto(site.url)
            if script:
                page.wait_for_selector("[data-link=live]")
                time.sleep(0.5)
            page.screenshot(path=folder / f"{name}.png", full_page=True)
            height = page.evaluate("document.documentElement.scrollHeight")
            for top in range(0, height if width < 1000 else 2000, 1000):
                page.screenshot(
                    path=folder / f"{name}-{top}.png",
                    full_page=True,
                    clip={"x": 0, "y": top, "width": width, "height": min(1000, height - top)},
                )
            context.close()
        page = browser.new_page(viewport={"width": 1100, "height": 700})
        page.goto(f"{site.url}node/atlas")
        page.wait_for_selector("main[data-live]")
        page.locator("#node-atlas").get_by_text("Pause…").click()
        page.screenshot(path=folder / "form.png")
        site.stop()
        page.wait_for_selector("#link[data-link=lost]")
        page.screenshot(path=folder / "lost.png")
        browser.close()
    large(folder)


def large(folder: Path, nodes: int = 1000) -> None:
    """Take the page of a large fleet."""
    with Site(large=LargeFleet(nodes)) as site, sync_playwright() as playwright:
        browser = start(playwright)
        for name, width, scheme in (
            ("wide", 1400, "light"),
            ("dark", 1900, "dark"),
            ("phone", 390, "light"),
        ):
            page = browser.new_page(
                viewport={"width": width, "height": 1000},
                color_scheme=scheme,  # type: ignore[arg-type]
            )
            page.goto(site.url)
            page.wait_for_selector("main[data-live]")
            page.wait_for_selector(".row[data-presence=online]")
            page.wait_for_timeout(6000)
            page.screenshot(path=folder / f"large-{name}.png")
            page.locator("#part-users").scroll_into_view_if_needed()
            page.wait_for_timeout(500)
            page.screenshot(path=folder / f"large-{name}-users.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
