"""Who may load the page and who may change something; pure decisions and the guard that asks them.

Three dangers, three answers. A foreign name that points at our address (DNS rebinding): a Host
that is a name must be known; an address cannot be rebound. A foreign page that posts to us: a
change must come from our own origin. A stranger: a change is for who may read the operator's
password as well, which are root and who runs us, seen by whose process the connection over loopback
is; all others need a token, and are refused where none is configured.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.web.access.peer import Address, Peer, user_of

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
BODY_BYTES = 10_000
BODY_SECONDS = 10.0
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

Controls = Literal["open", "token", "off"]
"""Whether who looks may change something: yes, with a token, or not at all."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a request is refused."""

    status: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the administrator allows."""

    hosts: frozenset[str]
    """Names, in lower case and without port, that may stand in Host; addresses always may."""
    users: frozenset[int]
    """Ids of those who may change something from this machine."""
    token: str | None = None
    user_of: Callable[[Address, Address], int | None] = user_of

    async def peer_of(self, scope: Scope) -> Peer:
        """Return who is at the other end of a request."""
        theirs, ours = scope.get("client"), scope.get("server")
        if not theirs:
            return Peer(address=None)
        if not ours or not _is_loopback(theirs[0]):
            return Peer(address=theirs[0])
        user = await asyncio.to_thread(self.user_of, tuple(theirs), tuple(ours))
        return Peer(address=theirs[0], user=user)

    def refusal(self, method: str, headers: Mapping[str, str], peer: Peer) -> Refusal | None:
        """Return why a request is refused, or None."""
        host = headers.get("host", "")
        if not self._is_known(host):
            return Refusal(
                status=421,
                text=f"Gleaner does not know the name {_name(host)!r}. "
                "Add it to web.allowed_hosts, or use the machine's address.",
            )
        if method in SAFE_METHODS:
            return None
        if not _is_own_origin(headers):
            return Refusal(status=403, text="Changes are accepted from Gleaner's own page only.")
        return self._control_refusal(headers, peer)

    def controls(self, headers: Mapping[str, str], peer: Peer) -> Controls:
        """Return whether who looks at the page may change something."""
        if peer.user in self.users and _is_local(headers, peer.address):
            return "open"
        return "token" if self.token else "off"

    def _control_refusal(self, headers: Mapping[str, str], peer: Peer) -> Refusal | None:
        match self.controls(headers, peer):
            case "open":
                return None
            case "off":
                return Refusal(
                    status=403,
                    text="Changes are for root and for the user who runs Gleaner, on this machine; "
                    "others need a token, and web.control_token_file is not configured.",
                )
            case "token":
                scheme, _, given = headers.get("authorization", "").partition(" ")
                if scheme.lower() == "bearer" and hmac.compare_digest(
                    given.strip().encode(), (self.token or "").encode()
                ):
                    return None
                return Refusal(status=401, text="Changes need the token of web.control_token_file.")

    def _is_known(self, host: str) -> bool:
        name = _name(host)
        return _is_address(name) or name in self.hosts or name.endswith(".localhost")


class Guard:
    """Refuses what the rules refuse, and puts the security headers on everything else."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        is_change = scope["method"] not in SAFE_METHODS
        # To look at the connections of this machine costs something, and only a change needs it.
        peer = await self._rules.peer_of(scope) if is_change else Peer(address=None)
        refusal = self._rules.refusal(scope["method"], Headers(scope=scope), peer)
        if refusal is None and is_change:
            body = await _body(receive)
            refusal = body if isinstance(body, Refusal) else None
            receive = receive if isinstance(body, Refusal) else _first(body, receive)
        app = self._app if refusal is None else _refuse(refusal, scope["path"])
        await app(scope, receive, send_with_headers)


async def _body(receive: Receive) -> Message | Refusal:
    """Read a change as a whole before anybody else does: it is small, and it comes soon."""
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return Refusal(status=400, text="The request broke off.")
                body += message.get("body", b"")
                if len(body) > BODY_BYTES:
                    return Refusal(status=413, text="The request is too large.")
                if not message.get("more_body", False):
                    return {"type": "http.request", "body": body, "more_body": False}
    except TimeoutError:
        return Refusal(status=408, text="The request took too long to arrive.")


def _first(message: Message, receive: Receive) -> Receive:
    """Return a `receive` that gives one message before all others."""
    waiting = [message]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


def _refuse(refusal: Refusal, path: str) -> Response:
    headers = {"www-authenticate": "Bearer"} if refusal.status == 401 else None
    if "/api/" in path:
        return JSONResponse({"detail": refusal.text}, refusal.status, headers)
    return PlainTextResponse(refusal.text + "\n", refusal.status, headers)


def _name(host: str) -> str:
    """Return the name or address in a Host header, without port, brackets and last dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str | None) -> bool:
    if name is None:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


def _is_local(headers: Mapping[str, str], peer: str | None) -> bool:
    """Whether a request comes from this machine, and not from a proxy that runs on it."""
    if any(header in headers for header in FORWARDED):
        return False
    return _is_loopback(peer) and _is_loopback(_name(headers.get("host", "")))


def _is_own_origin(headers: Mapping[str, str]) -> bool:
    """Whether a change comes from our own page, or from no page at all.

    Browsers leave Sec-Fetch-Site out over plain http to a name; Origin is there then.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2].lower() == headers.get("host", "").lower()
