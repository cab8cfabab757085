"""The web service: one connection to the bus, one HTTP server, in one loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from gleaner.bus.mqtt import MqttBus
from gleaner.runtime import Fatal, connection, keep_healthy
from gleaner.settings import WebSettings
from services.web.app import make_app
from services.web.live import Live
from services.web.names import Names
from services.web.questions import Questions
from services.web.recall import recall
from services.web.security import Rules
from services.web.settings import Settings

logger = logging.getLogger(__name__)

GRACE_SECONDS = 3


async def serve(settings: Settings) -> None:
    """Show the fleet until cancelled."""
    rules = make_rules(settings.web)
    bus = MqttBus(connection(settings.bus), "web", "main")
    names = Names(nodes=settings.web.display_names, models=settings.web.model_names)
    live = Live(bus, names.nodes)
    questions = Questions(bus)
    app = make_app(live, questions, rules, names)
    with listen(settings.web) as listener:
        logger.info("the page is at %s", address_of(listener))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bus.run(), name="bus")
            tasks.create_task(keep_healthy(settings.node.data_directory, "web", bus), name="health")
            tasks.create_task(live.run(), name="live")
            tasks.create_task(recall(live, questions), name="recall")
            tasks.create_task(serve_http(make_server(app), listener, live), name="http")


def make_rules(settings: WebSettings) -> Rules:
    """Return who may do what; raise Fatal if the token file cannot be read."""
    token = None
    if settings.control_token_file is not None:
        token = _read_token(settings.control_token_file)
    name = socket.gethostname().lower()
    own = {"localhost", settings.address[0].lower(), name, name.partition(".")[0]}
    return Rules(
        hosts=frozenset(own | {host.lower() for host in settings.allowed_hosts}), token=token
    )


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
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            lifespan="off",
        )
    )


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
