"""Debian's Chromium, kept from talking to anybody."""

from __future__ import annotations

from playwright.sync_api import Browser, Playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def start(playwright: Playwright) -> Browser:
    """Start a browser with a fresh profile."""
    return playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
