"""Every page below a path of somebody else's web server: links, styles, stream and API follow."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from gleaner.cli.machine.broker import free_port
from tests.web.site import Site

pytestmark = pytest.mark.browser

NGINX = """
daemon off;
master_process off;
error_log stderr error;
pid {directory}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location /gpus/ {{ proxy_pass {behind}/; }}
    }}
}}
"""
"""As its manual has it, with no word about streams: what we send says what it needs."""


@contextmanager
def nginx(directory: Path, behind: str) -> Iterator[str]:
    """Serve a site below `/gpus/`; yield the address."""
    port = free_port()
    file = directory / "nginx.conf"
    file.write_text(NGINX.format(directory=directory, port=port, behind=behind))
    url = f"http://127.0.0.1:{port}/gpus/"
    process = subprocess.Popen(["/usr/sbin/nginx", "-c", file, "-p", directory])
    try:
        deadline = time.monotonic() + 20
        while True:
            with suppress(OSError), urllib.request.urlopen(url, timeout=5):
                break
            assert process.poll() is None, "nginx did not start"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def test_below_a_path_of_nginx_everything_works(
    browser: Browser, site: Site, tmp_path: Path
) -> None:
    with nginx(tmp_path, site.url.rstrip("/")) as url:
        context = browser.new_context()
        page = context.new_page()
        asked: list[str] = []
        failed: list[str] = []
        complaints: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        context.on("response", lambda one: failed.append(one.url) if one.status >= 400 else None)
        page.on("console", lambda message: complaints.append(message.text))

        page.goto(url)
        # The stream comes through at once, although nobody told nginx not to keep it back.
        page.wait_for_selector("#link[data-link=live]")
        page.wait_for_selector("main[data-live]")
        for name in ("Usage", "History", "Now"):
            page.get_by_role("link", name=name, exact=True).first.click()
            page.wait_for_load_state()
            assert page.url.startswith(url), name
        page.locator("main a[href*='node/']").first.click()
        page.wait_for_url(f"{url}node/**")
        context.close()

        with urllib.request.urlopen(f"{url}api/openapi.json", timeout=5) as answer:
            described = json.load(answer)

    assert [one for one in asked if not one.startswith(url)] == []
    assert failed == []
    assert complaints == []
    assert described["openapi"].startswith("3.")
