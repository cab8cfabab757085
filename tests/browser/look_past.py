"""Take pictures of the pages behind the first: `python -m tests.browser.look_past FOLDER`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.chromium import start
from tests.web.recorded import recorder_in
from tests.web.site import Site

PAST = {
    "node": "node/atlas?range=week",
    "gpu": "node/atlas/gpu/0?range=week",
    "usage": "usage?range=week",
    "events": "history",
    "runs": "history?what=runs",
}


def main(folder: Path) -> None:
    """Take each wide, dark, on a phone, on a wall and without script."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        Site(recorder=recorder_in(Path(data))) as site,
        sync_playwright() as playwright,
    ):
        browser = start(playwright)
        for kind, width, scheme, script in (
            ("wide", 1400, "light", True),
            ("dark", 1400, "dark", True),
            ("phone", 390, "light", True),
            ("wall", 3840, "dark", True),
            ("no-script", 1400, "light", False),
        ):
            for name, path in PAST.items():
                page = browser.new_page(
                    viewport={"width": width, "height": 900},
                    color_scheme=scheme,  # type: ignore[arg-type]
                    java_script_enabled=script,
                )
                page.goto(site.url + path)
                if script and "history" not in path:
                    page.locator(".plot canvas").first.wait_for()
                page.screenshot(path=folder / f"{name}-{kind}.png", full_page=True)
                page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
