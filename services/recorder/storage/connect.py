"""Connections to a database: how SQLite and PostgreSQL are reached, and set up for us."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Connection, NullPool, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gleaner.runtime import Fatal
from services.recorder.storage.lock import lock_server

LOCKED_SECONDS = 2.0
PAGE_BYTES = 16384
"""Four times the usual: a twelfth less is empty, and the hours of a day fit into a page."""
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_SERVER_SETTINGS = {
    "application_name": "gleaner",
    # A server that does not notice the end of a cut connection keeps our lock for hours.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


def url_of(text: str) -> URL:
    """Return a `database.url` with the driver that we use for it."""
    url = make_url(text)
    return url.set(drivername=_DRIVERS[url.drivername])


def is_file(url: URL) -> bool:
    """Tell a file of this machine from a server."""
    return url.drivername.startswith("sqlite")


def name_of(url: URL) -> str:
    """Return the file, or the server without its password; for messages."""
    if is_file(url):
        return str(url.database)
    return url.set(drivername="postgresql").render_as_string()


def writing(url: URL) -> AsyncEngine:
    """Return the one connection that writes; with it comes the lock of a server, not of a file."""
    engine = _engine(url, pool_size=1, max_overflow=0, pool_pre_ping=not is_file(url))
    if is_file(url):
        event.listen(engine.sync_engine, "connect", _set_up_writer)
        event.listen(engine.sync_engine, "begin", _begin_immediate)
    else:
        event.listen(engine.sync_engine, "connect", lock_server)
    return engine


def reading(url: URL) -> AsyncEngine:
    """Return connections that only read, a new one each time.

    None is left open, with its thread, when the file is replaced.
    """
    engine = _engine(url, poolclass=NullPool)
    if is_file(url):
        event.listen(engine.sync_engine, "connect", _set_up_reader)
    return engine


def _engine(url: URL, **pool: Any) -> AsyncEngine:
    if is_file(url):
        own: dict[str, Any] = {"timeout": LOCKED_SECONDS, "isolation_level": None}
    else:
        own = {"server_settings": _SERVER_SETTINGS}
    try:
        return create_async_engine(url, connect_args=own, **pool)
    except ModuleNotFoundError as error:
        what = "postgres" if error.name == "asyncpg" else "recorder"
        raise Fatal(f"{error.name} is not installed: pip install 'gleaner[{what}]'") from error


def _set_up_writer(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA page_count")
    if cursor.fetchone() == (0,):
        # Before anything else is in the file; later it takes a VACUUM of the whole. The second of
        # these writes to the file, after which its pages are as large as they are.
        cursor.execute(f"PRAGMA page_size={PAGE_BYTES}")
        cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
    cursor.execute("PRAGMA journal_mode=WAL")
    # What is told to be recorded is forgotten by the nodes: it must outlive a power cut. The usual
    # NORMAL of a write-ahead log does not wait for the disk; this costs a fifth of a millisecond
    # for each transaction on a solid-state disk.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _set_up_reader(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    # The driver's own transactions begin late and leave table changes out.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
