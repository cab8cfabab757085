"""The command line's connection to the bus: where it is, and one clear line when it is not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator

from gleaner.bus.connection import Connection
from gleaner.bus.dial import dial
from gleaner.cli.machine.broker import Address, is_answered
from gleaner.cli.machine.endpoint import find_endpoint
from gleaner.cli.settings import Settings
from gleaner.client import Client
from gleaner.runtime import Fatal, connection

CONNECT_SECONDS = 5.0
AGAIN_SECONDS = 1.0
"""How long we wait before we look for a broker again."""


class _LastWords(logging.Handler):
    """Remembers what the bus complained of last, to say it only if nothing comes of it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


def where(settings: Settings) -> Connection:
    """Return the broker to talk to: the one configured with an account, else that of `up`."""
    if settings.bus.user is None and settings.bus.certificate_file is None:
        endpoint = find_endpoint(settings.node.data_directory)
        if endpoint is not None and is_answered(Address(*endpoint.address)):
            return endpoint
    return connection(settings.bus)


def enrolled_node(settings: Settings) -> str | None:
    """Return the node whose account the settings have by an enrolment; it is for that alone."""
    by_enrolment = settings.enrolment.get("node")
    is_used = by_enrolment and settings.bus.user == settings.enrolment["bus"]["user"]
    return settings.node.id if is_used else None


@contextlib.asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Client]:
    """Connect; raise Fatal, with the reason, if that fails."""
    if enrolled_node(settings):
        raise Fatal(
            f"this host is enrolled as the node {enrolled_node(settings)}, which speaks for itself "
            "only; ask on the server, or with bus.url, bus.user and bus.password_file of a reader"
        )
    to = where(settings)
    try:
        dial(to.address, CONNECT_SECONDS).close()
    except OSError as error:
        raise Fatal(
            f"no broker at {to.url}: {error.strerror or error}; "
            "is Gleaner running (`gleaner up`), and is bus.url right?"
        ) from error
    words = _LastWords()
    log = logging.getLogger("gleaner.bus")
    log.addHandler(words)
    log.propagate = False
    try:
        async with Client(to, "cli") as client:
            deadline = asyncio.get_running_loop().time() + CONNECT_SECONDS
            while not client.bus.connected:
                if words.text or asyncio.get_running_loop().time() > deadline:
                    raise Fatal(words.text or f"{to.url}: no answer within {CONNECT_SECONDS:g} s")
                await asyncio.sleep(0.01)
            yield client
    finally:
        log.removeHandler(words)
        log.propagate = True


async def connections(settings: Settings) -> AsyncGenerator[Client]:
    """Yield a connection, and after it another one, for ever; raise Fatal if there is none at all.

    Each looks anew for the broker: `gleaner up` gives new passwords at every start.
    """
    was_there = False
    while True:
        try:
            async with connected(settings) as client:
                was_there = True
                yield client
        except Fatal:
            if not was_there:
                raise
        await asyncio.sleep(AGAIN_SECONDS)


async def until_lost(client: Client) -> None:
    """Wait until a connection is no longer there."""
    gone = asyncio.Event()
    client.bus.on_connection(lambda is_there: None if is_there else gone.set())
    if client.bus.connected:
        await gone.wait()
