"""The service around the application: its port, its token, its end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.mqtt import MqttBus
from gleaner.runtime import Fatal
from gleaner.settings import BusSettings, NodeSettings, WebSettings
from services.web.service import listen, make_rules, serve
from services.web.settings import Settings
from tests.builders import until
from tests.mosquitto import Mosquitto
from tests.web.example import Example
from tests.web.site import Site


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        with (
            pytest.raises(Fatal, match=f"^web.listen {address}: the port is taken$"),
            listen(WebSettings(listen=address)),
        ):
            pass


def test_an_address_that_is_not_ours_is_named() -> None:
    with (
        pytest.raises(Fatal, match=r"^web.listen 192\.0\.2\.1:8080: .*assign"),
        listen(WebSettings(listen="192.0.2.1:8080")),
    ):
        pass


def test_the_body_of_an_answer_does_not_wait_for_the_other_side_to_confirm_its_head() -> None:
    with (
        listen(WebSettings(listen="127.0.0.1:0")) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_token_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret \nsecond line\n")

    assert make_rules(WebSettings(control_token_file=file)).token == "secret"


@pytest.mark.parametrize("contents", [None, "", "\n"])
def test_a_token_file_without_token_is_named(tmp_path: Path, contents: str | None) -> None:
    file = tmp_path / "token"
    if contents is not None:
        file.write_text(contents)

    with pytest.raises(Fatal, match=f"^web.control_token_file {file}: "):
        make_rules(WebSettings(control_token_file=file))


@pytest.mark.parametrize("coding", ["gzip", "identity"])
def test_the_stream_passes_proxies_as_it_is(coding: str) -> None:
    asked = {"accept-encoding": coding}
    with (
        Site() as site,
        httpx2.stream("GET", f"{site.url}events", headers=asked) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["content-encoding"] == coding
        assert answer.headers["x-accel-buffering"] == "no"
        assert next(answer.iter_lines()).startswith("id: ")


def test_it_stops_at_once_with_streams_open() -> None:
    with Site() as site:
        stream = httpx2.stream("GET", f"{site.url}events")
        lines = stream.__enter__().iter_lines()
        next(lines)
        started = time.monotonic()
    assert time.monotonic() - started < 2
    with contextlib.suppress(httpx2.HTTPError):
        assert all(line is not None for line in lines)
    stream.__exit__(None, None, None)


@pytest.mark.broker
async def test_the_page_is_fed_by_a_real_broker(mosquitto: Mosquitto, tmp_path: Path) -> None:
    mosquitto.forget()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = Settings(
        bus=BusSettings(url=mosquitto.url),
        node=NodeSettings(data_directory=tmp_path),
        web=WebSettings(listen=f"127.0.0.1:{port}"),
    )
    node = MqttBus(Connection(url=mosquitto.url), "node", "atlas")
    tasks = [asyncio.create_task(node.run()), asyncio.create_task(serve(settings))]
    example = Example(datetime.now(UTC))
    for message in example.atlas():
        node.publish(message)
    await until(lambda: node.connected and (tmp_path / "health" / "web").exists())

    node.publish(example.beat("atlas"))
    headline = ""
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        async with asyncio.timeout(5):
            while not headline.startswith("3 of 8"):
                headline = (await client.get("/api/fleet")).json()["overview"]["headline"]
                node.publish(example.beat("atlas"))

    assert headline == "3 of 8 GPUs free"
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
