"""Who may look, and who may change something."""

from __future__ import annotations

import pytest

from services.web.security import Rules

RULES = Rules(hosts=frozenset({"localhost", "gpu1.example.org"}))
GUARDED = Rules(hosts=RULES.hosts, token="secret")


def refused(
    rules: Rules = RULES,
    method: str = "POST",
    peer: str | None = "127.0.0.1",
    host: str = "127.0.0.1:8080",
    **headers: str,
) -> int | None:
    given = {"host": host} | {key.replace("_", "-"): value for key, value in headers.items()}
    refusal = rules.refusal(method, given, peer)
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


def test_a_program_on_this_machine_may_change_something() -> None:
    assert refused() is None


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
    assert RULES.controls({"host": "gpu1.example.org"}, "127.0.0.1") == "off"


def test_the_page_knows_what_it_may_offer() -> None:
    assert RULES.controls({"host": "localhost:8080"}, "::1") == "open"
    assert GUARDED.controls({"host": "192.168.7.4"}, "192.168.7.9") == "token"
    assert RULES.controls({"host": "192.168.7.4"}, None) == "off"
