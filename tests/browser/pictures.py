"""Take the pictures of the README anew: `python -m tests.browser.pictures FOLDER`."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from playwright.sync_api import sync_playwright

from tests.browser.chromium import start
from tests.web import example, recorded
from tests.web.example import Example
from tests.web.recorded import recorder_in
from tests.web.site import Site

Scheme = Literal["light", "dark"]
PICTURES: dict[str, tuple[str, int, Scheme]] = {
    "gpu": ("node/atlas/gpu/0?range=week", 1560, "dark"),
    "usage": ("usage?range=week", 1130, "light"),
    "now": ("", 960, "light"),
}
"""In this order: the readings of the example are old soon, and one of its nodes has to be stale."""
WIDTH = 1400


def main(folder: Path) -> None:
    """Take each of the example fleet, from the top of the page."""
    # The tests call somebody by what would be markup; a picture need not.
    example.MARKUP = recorded.MARKUP = "carol"
    with (
        tempfile.TemporaryDirectory() as data,
        Site(recorder=recorder_in(Path(data))) as site,
        sync_playwright() as playwright,
    ):
        browser = start(playwright)
        site.draco_is_silent = True
        # To record the past took longer than readings are current.
        for message in Example(datetime.now(UTC)).messages():
            site.say(message)
        for name, (path, height, scheme) in PICTURES.items():
            page = browser.new_page(
                viewport={"width": WIDTH, "height": height}, color_scheme=scheme
            )
            page.goto(site.url + path)
            page.locator(".plot canvas" if path else ".row[data-presence=stale]").first.wait_for()
            page.wait_for_timeout(500)
            page.screenshot(path=folder / f"{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
