"""The web service: one connection to the bus, one HTTP server, in one loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gleaner.bus.mqtt import MqttBus
from gleaner.names import Called
from gleaner.runtime import Fatal, connection, keep_healthy
from gleaner.settings import WebSettings
from services.web.access.security import Rules
from services.web.app import make_app
from services.web.clocks import tell_wrong_clocks
from services.web.questions import Questions
from services.web.settings import Settings
from services.web.streaming.live import Live
from services.web.streaming.recall import recall, recall_hour

logger = logging.getLogger(__name__)

GRACE_SECONDS = 3
HEAD_SECONDS = 10
"""For the head of a request, since the connection or the answer before."""
UNREAD_SECONDS = 60
"""How long a client may leave what we sent unread."""
COLLECTION_SECONDS = 0.05
YOUNG_OBJECTS = 5_000
"""Above what a busy moment brings: the steps of our own come first."""
FULL_COLLECTION_EVERY = 1_000_000
"""In collections of the second generation; half a day."""


async def serve(settings: Settings) -> None:
    """Show the fleet until cancelled."""
    collect_rarely()
    rules = make_rules(settings.web)
    bus = MqttBus(connection(settings.bus), "web", "main")
    names = Called(nodes=settings.web.display_names, models=settings.web.model_names)
    live = Live(bus, names.nodes, models=names.models)
    questions = Questions(bus)
    tell_wrong_clocks(bus)
    app = make_app(live, questions, rules, names)
    with listen(settings.web) as listener:
        logger.info("the page is at %s", address_of(listener))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(collect_often(), name="memory")
            tasks.create_task(bus.run(), name="bus")
            tasks.create_task(keep_healthy(settings.node.data_directory, "web", bus), name="health")
            tasks.create_task(live.run(), name="live")
            tasks.create_task(recall(live, questions), name="recall")
            tasks.create_task(recall_hour(live, questions), name="recall the last hour")
            tasks.create_task(serve_http(make_server(app), listener, live), name="http")


def collect_rarely() -> None:
    """Spare the loop the full collections: a large fleet takes a quarter of a second each time.

    What is known of the fleet are values without cycles; counting references frees them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 3, FULL_COLLECTION_EVERY)


async def collect_often() -> None:
    """Look through young objects in small steps until cancelled.

    Python counts how many more objects there are than before. While old ones are replaced by new
    ones, as in a large fleet, that hardly grows, and once it does 90,000 are looked through at
    once: 20 ms.
    """
    while True:
        await asyncio.sleep(COLLECTION_SECONDS)
        gc.collect(1)


def make_rules(settings: WebSettings) -> Rules:
    """Return who may do what; raise Fatal if the token file cannot be read."""
    token = None
    if settings.control_token_file is not None:
        token = _read_token(settings.control_token_file)
    name = socket.gethostname().lower()
    own = {"localhost", settings.address[0].lower(), name, name.partition(".")[0]}
    return Rules(
        hosts=frozenset(own | {host.lower() for host in settings.allowed_hosts}),
        users=who_may_change(os.geteuid(), os.environ),
        token=token,
    )


def who_may_change(user: int, environment: Mapping[str, str]) -> frozenset[int]:
    """Return who may pause and drain from this machine: root, who runs us, who called sudo."""
    users = {0, user}
    behind_sudo = environment.get("SUDO_UID", "")
    if user == 0 and behind_sudo.isdecimal():
        users.add(int(behind_sudo))
    return frozenset(users)


@contextlib.contextmanager
def listen(settings: WebSettings) -> Iterator[socket.socket]:
    """Listen at the configured address; raise Fatal with words if that is not possible."""
    host, port = settings.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "the port is taken" if taken else (error.strerror or str(error))
        raise Fatal(f"web.listen {settings.listen}: {why}") from error
    with listener:
        listener.setblocking(False)
        # Its connections inherit it: the kernel ends one whose peer takes nothing any more.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)
        # asyncio sets this only on sockets whose protocol has a number, and ours has none: without
        # it the body of an answer waits up to 40 ms for the other side's ACK of the head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def address_of(listener: socket.socket) -> str:
    """Return where the page is, for people to open."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def make_server(app: object) -> uvicorn.Server:
    """Return a server that leaves signals to us."""
    return _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            http=_Protocol,
            ws="none",
            log_config=None,
            # Warnings tell of requests that make no sense: anybody could fill the log with them.
            log_level=logging.ERROR,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=HEAD_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
            lifespan="off",
        )
    )


class _Protocol(H11Protocol):
    """Closes a connection on which no request comes; enough of these would use up all files."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self.timeout_keep_alive_task = self.loop.call_later(
            HEAD_SECONDS, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        """Take what comes; unlike uvicorn's, only a whole head stops the clock."""
        self.conn.receive_data(data)
        self.handle_events()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them to gleaner.runtime."""
        yield


async def serve_http(server: uvicorn.Server, listener: socket.socket, live: Live) -> None:
    """Serve until cancelled; then end the streams, so that nobody has to wait for them."""
    serving = asyncio.create_task(server.serve([listener]), name="uvicorn")
    try:
        await asyncio.shield(serving)
    finally:
        live.close()
        server.should_exit = True
        await serving


def _read_token(path: Path) -> str:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Fatal(f"web.control_token_file {path}: {error}") from error
    token = lines[0].strip() if lines else ""
    if not token:
        raise Fatal(f"web.control_token_file {path}: its first line is empty")
    return token
