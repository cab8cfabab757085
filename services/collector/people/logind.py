"""Ask logind who sits at a graphical seat, near or remote; see org.freedesktop.login1(5).

Only sessions of X11 and Wayland are asked for: logind's idle hint of a text session is worth less
than the terminal's own access time. A locked session, or one in the background, is nobody's seat.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dbus_fast import BusType, DBusFastError, Message, MessageType
from dbus_fast.aio import MessageBus

from services.collector.interface import Terminal

logger = logging.getLogger(__name__)

_NAME = "org.freedesktop.login1"
_DEADLINE_SECONDS = 1.0
_RETRY_SECONDS = 10.0
_GONE = (f"{_NAME}.NoSuchSession", "org.freedesktop.DBus.Error.UnknownObject")
_GRAPHICAL = ("x11", "wayland", "mir")


class _NoAnswer(Exception):
    """Logind refused, or is not there; the text says why."""


class _Gone(Exception):
    """The session ended since it was listed."""


class Logind:
    """Graphical sessions by the system bus; without one, a sentence and no error."""

    def __init__(
        self, address: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = address
        self._clock = clock
        self._bus: MessageBus | None = None
        self._retry_at = 0.0
        self._problem: str | None = None
        self._seen: tuple[Terminal, ...] = ()
        self._textual: set[str] = set()

    async def seats(self) -> tuple[Terminal, ...]:
        """Return who sits where; when logind stops answering, nobody can tell who still does."""
        if self._clock() < self._retry_at:
            return self._seen
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                self._seen = await self._ask()
            self._problem = None
        except (OSError, EOFError, TimeoutError, DBusFastError, _NoAnswer) as error:
            await self.close()
            self._problem = _describe(error)
            self._retry_at = self._clock() + _RETRY_SECONDS
            self._seen = tuple(replace(seat, idle_seconds=None) for seat in self._seen)
            logger.debug("logind: %s", self._problem)
        return self._seen

    def problems(self) -> tuple[str, ...]:
        """Return what cannot be seen, if so."""
        if self._problem is None:
            return ()
        return (f"people at graphical seats are not seen: {self._problem}",)

    async def close(self) -> None:
        """Leave the system bus."""
        bus, self._bus = self._bus, None
        if bus is None:
            return
        if bus.connected:
            bus.disconnect()
        with contextlib.suppress(Exception):  # Why it was lost was told by the call already.
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    async def _ask(self) -> tuple[Terminal, ...]:
        sessions = (await self._call(f"/{_NAME.replace('.', '/')}", "Manager", "ListSessions"))[0]
        paths = [path for *_, path in sessions]
        self._textual &= set(paths)
        found = [await self._seat(path) for path in paths if path not in self._textual]
        return tuple(seat for seat in found if seat is not None)

    async def _seat(self, path: str) -> Terminal | None:
        try:
            (answer,) = await self._call(path, "Session", None)
        except _Gone:
            return None
        session = {name: variant.value for name, variant in answer.items()}
        if session["Type"] not in _GRAPHICAL:
            self._textual.add(path)
            return None
        # `user`, `user-early` (root), `user-light`; not `greeter`, `lock-screen`, `manager`.
        seated = session["Active"] and session["Class"].startswith("user")
        if not seated or session.get("LockedHint", False):
            return None
        return Terminal(
            where=session["Seat"][0] or f"session {session['Id']}",
            user_id=session["User"][0],
            user=session["Name"],
            idle_seconds=self._idle_seconds(session),
        )

    def _idle_seconds(self, session: dict[str, Any]) -> float | None:
        since_microseconds: int = session["IdleSinceHintMonotonic"]
        if session["IdleHint"]:
            return max(0.0, self._clock() - since_microseconds / 1e6)
        # A desktop that never gave a hint may be one that never does.
        return 0.0 if since_microseconds else None

    async def _call(self, path: str, interface: str, member: str | None) -> list[Any]:
        """Call a method of an interface, or get all its properties."""
        if self._bus is None:
            bus = MessageBus(self._address, BusType.SYSTEM)
            await bus.connect()
            self._bus = bus
        full = f"{_NAME}.{interface}"
        reply = await self._bus.call(
            Message(
                destination=_NAME,
                path=path,
                interface=full if member else "org.freedesktop.DBus.Properties",
                member=member or "GetAll",
                signature="" if member else "s",
                body=[] if member else [full],
            )
        )
        if reply.error_name in _GONE:
            raise _Gone
        if reply.message_type is MessageType.ERROR:
            raise _NoAnswer(reply.body[0] if reply.body else reply.error_name)
        return list(reply.body)


def _describe(error: Exception) -> str:
    match error:
        case TimeoutError():
            return f"logind did not answer within {_DEADLINE_SECONDS:g} s"
        case OSError():
            return f"the system's message bus (D-Bus) cannot be reached ({error.strerror or error})"
        case _:
            return f"logind: {error or type(error).__name__}"
