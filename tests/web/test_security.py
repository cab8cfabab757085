"""Who may look, and who may change something."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import httpx2
import pytest

from services.web import service
from services.web.access import security
from services.web.access.peer import Peer, user_of
from services.web.access.security import Rules
from services.web.service import who_may_change
from tests.builders import until
from tests.web.conftest import Web
from tests.web.example import Example
from tests.web.site import Site

ALICE, BOB = 1000, 1001
RULES = Rules(hosts=frozenset({"localhost", "gpu1.example.org"}), users=frozenset({0, ALICE}))
GUARDED = replace(RULES, token="secret")
HERE = Peer(address="::1", user=ALICE)


def refused(
    rules: Rules = RULES,
    method: str = "POST",
    peer: str | None = "127.0.0.1",
    host: str = "127.0.0.1:8080",
    user: int | None = ALICE,
    **headers: str,
) -> int | None:
    given = {"host": host} | {key.replace("_", "-"): value for key, value in headers.items()}
    refusal = rules.refusal(method, given, Peer(address=peer, user=user))
    return refusal.status if refusal else None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8080",
        "[::1]:8080",
        "localhost:9090",
        "LOCALHOST",
        "gpu1.example.org",
        "gpu1.example.org.",
        "192.168.7.4:8080",
        "page.localhost:8080",
    ],
)
def test_addresses_and_known_names_may_be_used(host: str) -> None:
    assert refused(method="GET", host=host) is None


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", "", "[::1"]
)
def test_a_name_that_somebody_pointed_at_us_is_refused(host: str) -> None:
    status = refused(method="GET", host=host)
    assert status == (None if host == "[::1" else 421)


def test_our_own_page_may_change_something() -> None:
    assert refused(sec_fetch_site="same-origin") is None
    assert refused(origin="http://127.0.0.1:8080") is None


def test_who_runs_gleaner_and_root_may_change_something_on_this_machine() -> None:
    assert refused(user=ALICE) is None
    assert refused(user=0) is None


def test_other_users_of_this_machine_need_the_token_as_strangers_do() -> None:
    assert refused(user=BOB) == 403
    assert refused(user=None) == 403
    assert refused(GUARDED, user=BOB) == 401
    assert refused(GUARDED, user=BOB, authorization="Bearer secret") is None


def test_who_called_sudo_counts_as_who_runs_gleaner() -> None:
    assert who_may_change(0, {"SUDO_UID": "1000"}) == {0, ALICE}
    assert who_may_change(ALICE, {"SUDO_UID": "0"}) == {0, ALICE}
    assert who_may_change(BOB, {"SUDO_UID": "1000"}) == {0, BOB}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_whose_connection_it_is_can_be_told(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        socket.create_server((address, 0), family=family) as listener,
        socket.create_connection(listener.getsockname()[:2]) as theirs,
    ):
        end, other = theirs.getsockname()[:2], theirs.getpeername()[:2]

        assert user_of(end, other) == os.geteuid()
        theirs.close()
        assert user_of(end, other) is None


def test_a_program_that_speaks_ipv4_by_a_socket_of_ipv6_is_known_too() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_INET6) as theirs,
    ):
        port = listener.getsockname()[1]
        theirs.connect(("::ffff:127.0.0.1", port))

        assert user_of(("127.0.0.1", theirs.getsockname()[1]), ("127.0.0.1", port)) == os.geteuid()


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
def test_a_foreign_page_may_not(site: str) -> None:
    assert refused(sec_fetch_site=site) == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:9999", "null"])
def test_a_foreign_origin_may_not_where_the_browser_says_no_more(origin: str) -> None:
    assert refused(origin=origin) == 403


def test_a_foreign_page_may_look() -> None:
    assert refused(method="GET", sec_fetch_site="cross-site") is None


def test_another_machine_may_not_change_anything_without_a_token_configured() -> None:
    assert refused(peer="192.168.7.9", host="192.168.7.4:8080") == 403


def test_another_machine_needs_the_token() -> None:
    far = {"peer": "192.168.7.9", "host": "192.168.7.4:8080"}
    assert refused(GUARDED, **far) == 401
    assert refused(GUARDED, **far, authorization="Bearer wrong") == 401
    assert refused(GUARDED, **far, authorization="Basic secret") == 401
    assert refused(GUARDED, **far, authorization="Bearer sécret") == 401
    assert refused(GUARDED, **far, authorization="Bearer secret") is None


def test_a_proxy_on_this_machine_does_not_make_strangers_local() -> None:
    assert refused(x_forwarded_for="203.0.113.5") == 403
    assert refused(host="gpu1.example.org") == 403
    assert RULES.controls({"host": "gpu1.example.org"}, HERE) == "off"


def test_the_page_knows_what_it_may_offer() -> None:
    assert RULES.controls({"host": "localhost:8080"}, HERE) == "open"
    assert GUARDED.controls({"host": "192.168.7.4"}, Peer(address="192.168.7.9")) == "token"
    assert RULES.controls({"host": "192.168.7.4"}, Peer(address=None)) == "off"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as running:
        yield running


def connect(site: Site, receives_bytes: int | None = None) -> socket.socket:
    """Open a connection; one that hardly takes anything if so many bytes are its room."""
    connection = socket.socket()
    if receives_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives_bytes)
    connection.settimeout(10)
    host, port = site.url.removeprefix("http://").rstrip("/").split(":")
    connection.connect((host, int(port)))
    return connection


def send(site: Site, head: str) -> bytes:
    """Send a request that no browser would; return the beginning of the answer."""
    with connect(site) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode())
        return connection.recv(1000)


@pytest.mark.parametrize("path", ["/control", "/api/pause"])
async def test_a_large_change_is_not_kept_until_it_is_whole(busy: Web, path: str) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * security.BODY_BYTES:
            sent += 1000
            yield b"x" * 1000

    answer = await busy.client.post(path, content=endless())

    assert answer.status_code == 413
    assert busy.asked == []


async def test_a_change_that_does_not_arrive_is_given_up(
    busy: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "BODY_SECONDS", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    assert (await busy.client.post("/api/pause", content=slow())).status_code == 408


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2f..%2f..%2f..%2fetc/passwd",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
        "/static/%00",
        "/node/..%2f..%2fetc%2fpasswd",
        "http://evil.example/static/../app.py",
    ],
)
def test_no_path_leads_out_of_the_static_files(site: Site, path: str) -> None:
    answer = send(site, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1")

    assert answer.startswith(b"HTTP/1.1 404 ")


def test_one_host_is_named_and_it_is_a_known_one_on_every_path(site: Site) -> None:
    for path in ("/", "/events", "/metrics", "/healthz", "/api/fleet", "/static/page.css"):
        assert b" 421 " in send(site, f"GET {path} HTTP/1.1\r\nHost: evil.example")
    assert b" 421 " in send(site, "GET / HTTP/1.0")
    assert b" 400 " in send(site, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example")


def test_looking_at_the_head_of_the_stream_ends(site: Site) -> None:
    assert httpx2.head(f"{site.url}events").status_code == 200
    assert httpx2.options(f"{site.url}events").status_code == 405


def test_requests_that_make_no_sense_do_not_fill_the_log(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        send(site, "\x16\x03\x01")
        send(site, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket")
        with connect(site) as connection:
            head = "POST /control HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nkind"
            connection.sendall(head.encode())
        httpx2.get(site.url)

    assert caplog.records == []


def test_requests_that_never_come_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "HEAD_SECONDS", 0.5)
    with Site() as site, contextlib.ExitStack() as held:
        silent = [held.enter_context(connect(site)) for _ in range(50)]
        slow = [held.enter_context(connect(site)) for _ in range(50)]
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        assert httpx2.get(site.url).status_code == 200

        assert {connection.recv(1) for connection in silent + slow} == {b""}


async def test_two_hundred_streams_that_nobody_reads_keep_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "UNREAD_SECONDS", 1)
    with Site() as site, contextlib.ExitStack() as held:
        for _ in range(200):
            connection = held.enter_context(connect(site, receives_bytes=4096))
            connection.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await until(lambda: site.live.watchers == 200, 30)
        waited = []

        def goes_on() -> bool:
            site.say(*Example(datetime.now(UTC)).messages())
            started = time.monotonic()
            assert httpx2.get(f"{site.url}api/fleet").status_code == 200
            waited.append(time.monotonic() - started)
            return site.live.watchers == 0

        await until(goes_on, 30)

        assert sorted(waited)[len(waited) // 2] < 1
