"""Ask a service over the bus and wait for its answer."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.message import Message
from gleaner.bus.messages import HistoryAnswer, HistoryQuery, Request, RequestKind, Response
from gleaner.runtime import Fatal

ANSWER_SECONDS = 10.0

A = TypeVar("A", bound=Message)


async def ask_scheduler(
    bus: Bus,
    kind: RequestKind,
    *,
    by: str,
    node: str | None,
    entry: str | None = None,
    reason: str = "",
    duration_seconds: float | None = None,
    answer_seconds: float = ANSWER_SECONDS,
) -> Response:
    """Make a request; raise Fatal if it cannot be made or nobody answers."""
    now, client = datetime.now(UTC), _client()
    request = Request(
        kind=kind,
        id=uuid.uuid4().hex,
        client=client,
        by=by,
        node=node,
        entry=entry,
        reason=reason,
        duration_seconds=duration_seconds,
        expires_at=now + timedelta(seconds=answer_seconds),
        at=now,
    )
    return await _ask(bus, request, request.id, client, Response, answer_seconds)


async def ask_recorder(
    bus: Bus, *, node: str | None, limit: int, cursor: str | None = None
) -> HistoryAnswer:
    """Ask for a page of events; raise Fatal if that cannot be asked or nobody answers."""
    client = _client()
    query = HistoryQuery(
        id=uuid.uuid4().hex,
        client=client,
        what="events",
        node=node,
        limit=limit,
        cursor=cursor,
        expires_at=datetime.now(UTC) + timedelta(seconds=ANSWER_SECONDS),
    )
    return await _ask(bus, query, query.id, client, HistoryAnswer, ANSWER_SECONDS)


async def _ask(
    bus: Bus, question: Message, identity: str, client: str, answer: type[A], seconds: float
) -> A:
    heard: asyncio.Future[A] = asyncio.get_running_loop().create_future()

    def take(delivery: Delivery) -> None:
        if isinstance(delivery.message, answer) and not heard.done():
            heard.set_result(delivery.message)

    bus.subscribe(answer, take, client=client, id=identity)
    refusal = await bus.deliver(question)
    if refusal is not None:
        raise Fatal(
            f"{refusal}: asking needs an account (bus.user and bus.password_file, or the right to "
            "read the operator's password of `gleaner up`)"
        )
    try:
        return await asyncio.wait_for(heard, seconds)
    except TimeoutError as error:
        whom = "scheduler" if answer is Response else "recorder"
        raise Fatal(f"no {whom} answered within {seconds:g} s; is one running?") from error


def _client() -> str:
    return f"cli-{uuid.uuid4().hex[:12]}"
