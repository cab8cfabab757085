"""A client for integrators and the command line: ask for things, read history, see the fleet.

    async with Client(connection, "my-tool") as client:
        print((await client.request(RequestKind.PAUSE, node="gpu1", reason="maintenance")).text)
        async for row in client.history(what="runs", node="gpu1"):
            print(row)
        fleet = await client.snapshot(seconds=3)

Its name takes part in topics, so that answers find it: with an account it is the user name, else
the given name with something random behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import re
import socket
import uuid
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from typing import Literal, Self

from pydantic import JsonValue

from gleaner.bus.connection import Connection
from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.message import Message
from gleaner.bus.messages import (
    Availability,
    HistoryAnswer,
    HistoryQuery,
    Request,
    RequestKind,
    Response,
)
from gleaner.bus.mqtt import MqttBus
from gleaner.comings import Comings
from gleaner.figures import By
from gleaner.fleet import Fleet, follow

ANSWER_SECONDS = 10.0
PAGE_ROWS = 500


HistoryWhat = Literal[
    "events", "runs", "samples", "sessions", "series", "usage", "quotas", "latencies"
]


class RequestFailed(Exception):
    """Nobody took or answered what was asked; the text says who and why."""


class Unanswered(RequestFailed):
    """Nobody answered in time, or nobody could be asked; asked later it may be answered."""


class NeverRecorded(RequestFailed):
    """A question names what the recorder never heard of; the text says so, and what comes close."""


class Client:
    """One connection for as long as the `async with` block; many questions at once are fine."""

    def __init__(self, connection: Connection, name: str, *, bus: Bus | None = None) -> None:
        self.id = connection.user or f"{_level(name)}-{uuid.uuid4().hex[:8]}"
        """The name that answers go to."""
        self._url = connection.url
        self._mqtt = None if bus else MqttBus(connection, "client", self.id, announces=False)
        self.bus: Bus = bus or self._required_mqtt
        """The bus itself, for everything else."""
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self._questions: dict[str, HistoryQuery] = {}
        """Without an answer so far."""
        self._recorders = Comings()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.bus.subscribe(Response, self._hear, client=self.id)
        self.bus.subscribe(HistoryAnswer, self._hear, client=self.id)
        self.bus.subscribe(Availability, self._recorder, service="recorder")
        if self._mqtt is not None:
            self._task = asyncio.create_task(self._mqtt.run(), name="client bus")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def connected(self, seconds: float = ANSWER_SECONDS) -> None:
        """Wait until the broker is there; raise RequestFailed if it does not come."""
        if self.bus.connected:
            return
        came = asyncio.Event()
        self.bus.on_connection(lambda connected: came.set() if connected else None)
        try:
            async with asyncio.timeout(seconds):
                await came.wait()
        except TimeoutError:
            raise RequestFailed(
                f"the broker at {self._url} cannot be reached (waited {seconds:g} s)"
            ) from None

    async def request(
        self,
        kind: RequestKind,
        *,
        node: str | None = None,
        entry: str | None = None,
        reason: str = "",
        duration_seconds: float | None = None,
        by: str | None = None,
        timeout: float = ANSWER_SECONDS,
    ) -> Response:
        """Ask the scheduler and return its answer, a refusal as well (`Response.ok`).

        Raise RequestFailed if it could not be asked or said nothing; a request that nobody took
        in time is never obeyed later.
        """
        await self.connected(timeout)
        at = datetime.now(UTC)
        request = Request(
            kind=kind,
            id=uuid.uuid4().hex,
            client=self.id,
            by=by or _me(),
            node=node,
            entry=entry,
            reason=reason,
            duration_seconds=duration_seconds,
            expires_at=at + timedelta(seconds=timeout),
            at=at,
        )
        answer = await self._ask(request, request.id, timeout, "the scheduler")
        assert isinstance(answer, Response)
        return answer

    async def history(
        self,
        *,
        what: HistoryWhat,
        node: str | None = None,
        gpu: str | None = None,
        of: Literal["host"] | None = None,
        kind: str | None = None,
        user: str | None = None,
        entry: str | None = None,
        state: str | None = None,
        by: By | None = None,
        points: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        on_answer: Callable[[HistoryAnswer], None] | None = None,
        timeout: float = ANSWER_SECONDS,
    ) -> AsyncGenerator[dict[str, JsonValue], None]:
        """Yield recorded rows, newest first, page by page; at most `limit`.

        `on_answer` hears each page as a whole: `looked_back_to` is no row.

        Raise RequestFailed if the recorder could not be asked, said nothing or refused.
        """
        await self.connected(timeout)
        cursor, left = None, limit
        while left is None or left > 0:
            query = HistoryQuery(
                id=uuid.uuid4().hex,
                client=self.id,
                what=what,
                node=node,
                gpu=gpu,
                of=of,
                kind=kind,
                user=user,
                entry=entry,
                state=state,
                by=by,
                points=points,
                since=since,
                until=until,
                limit=PAGE_ROWS if left is None else min(left, PAGE_ROWS),
                cursor=cursor,
                expires_at=datetime.now(UTC) + timedelta(seconds=timeout),
            )
            answer = await self.page(query, timeout)
            if on_answer is not None:
                on_answer(answer)
            for row in answer.rows:
                yield row
            left = None if left is None else left - len(answer.rows)
            cursor = answer.cursor
            if cursor is None:
                return

    async def page(self, query: HistoryQuery, timeout: float = ANSWER_SECONDS) -> HistoryAnswer:
        """Ask the recorder for one page, again if it comes back; its `client` has to be our id.

        Raise RequestFailed if it refused, Unanswered if it could not be asked or said nothing.
        """
        self._questions[query.id] = query
        try:
            answer = await self._ask(query, query.id, timeout, "the recorder")
        finally:
            del self._questions[query.id]
        assert isinstance(answer, HistoryAnswer)
        if answer.unknown is not None:
            raise NeverRecorded(answer.error)
        if answer.error is not None:
            did = "could not answer" if answer.is_fault else "refused"
            raise RequestFailed(f"the recorder {did} the question: {answer.error}")
        return answer

    async def snapshot(
        self, seconds: float = 3.0, *, enough: Callable[[Fleet], bool] | None = None
    ) -> Fleet:
        """Listen for some seconds, less if `enough` says so, and return the fleet as heard.

        Nodes beat once a second by default, so three seconds tell who is online.
        """
        await self.connected()
        fleet, changed = Fleet(), asyncio.Event()
        follow(self.bus, fleet, lambda _: changed.set())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while enough is None or not enough(fleet):
                    changed.clear()
                    await changed.wait()
        return fleet

    async def _ask(self, message: Message, key: str, timeout: float, whom: str) -> Message:
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        try:
            async with asyncio.timeout(timeout):
                refusal = await self.bus.deliver(message)
                if refusal is not None:
                    raise Unanswered(f"{whom} could not be asked: {refusal}")
                return await answer
        except TimeoutError:
            raise Unanswered(
                f"{whom} did not answer within {timeout:g} s; is it running?"
            ) from None
        finally:
            self._waiting.pop(key, None)

    def _recorder(self, delivery: Delivery) -> None:
        if self._recorders.came(delivery):
            for question in self._questions.values():
                self.bus.publish(question)

    def _hear(self, delivery: Delivery) -> None:
        answer = self._waiting.get(delivery.levels["id"])
        if answer is not None and not answer.done() and delivery.message is not None:
            answer.set_result(delivery.message)

    @property
    def _required_mqtt(self) -> MqttBus:
        assert self._mqtt is not None
        return self._mqtt


def _level(name: str) -> str:
    """Return a name that fits into a topic."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:60] or "client"


def _me() -> str:
    """Return who asks, for people to read: `alice@laptop`."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a user id without a name
        return socket.gethostname()
