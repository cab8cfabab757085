"""Ask the scheduler and the recorder over the bus, and wait for the answer."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.message import Message
from gleaner.bus.messages import HistoryAnswer, HistoryQuery, Request, RequestKind, Response

CLIENT = "web"
DEADLINE_SECONDS = 5.0


class NoAnswer(Exception):
    """Nobody answered in time; the text says who should have, for people to read."""


class Questions:
    """Sends questions and pairs answers with them by id."""

    def __init__(self, bus: Bus, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._bus = bus
        self._deadline_seconds = deadline_seconds
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        bus.subscribe(Response, self._answered, client=CLIENT)
        bus.subscribe(HistoryAnswer, self._answered, client=CLIENT)

    async def request(
        self,
        kind: RequestKind,
        *,
        by: str,
        node: str | None = None,
        entry: str | None = None,
        reason: str = "",
        duration_seconds: float | None = None,
    ) -> Response:
        """Ask the scheduler for something; raise NoAnswer if it does not answer."""
        now = datetime.now(UTC)
        question = Request(
            kind=kind,
            id=uuid.uuid4().hex,
            client=CLIENT,
            by=by,
            node=node,
            entry=entry,
            reason=reason,
            duration_seconds=duration_seconds,
            expires_at=now + timedelta(seconds=self._deadline_seconds),
            at=now,
        )
        answer = await self._ask(question, question.id, "scheduler")
        assert isinstance(answer, Response)
        return answer

    async def history(
        self, what: Literal["events", "runs", "samples", "sessions"], **filters: Any
    ) -> HistoryAnswer:
        """Ask the recorder for a page of history; raise NoAnswer if it does not answer."""
        question = HistoryQuery(
            id=uuid.uuid4().hex,
            client=CLIENT,
            what=what,
            expires_at=datetime.now(UTC) + timedelta(seconds=self._deadline_seconds),
            **filters,
        )
        answer = await self._ask(question, question.id, "recorder")
        assert isinstance(answer, HistoryAnswer)
        return answer

    async def _ask(self, question: Message, identity: str, whom: str) -> Message:
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[identity] = answer
        try:
            async with asyncio.timeout(self._deadline_seconds):
                refused = await self._bus.deliver(question)
                if refused is not None:
                    raise NoAnswer(f"the {whom} was not asked: {refused}")
                return await answer
        except TimeoutError:
            raise NoAnswer(
                f"the {whom} did not answer within {self._deadline_seconds:g} s"
            ) from None
        finally:
            del self._waiting[identity]

    def _answered(self, delivery: Delivery) -> None:
        waiting = self._waiting.get(delivery.levels["id"])
        if waiting is not None and delivery.message is not None and not waiting.done():
            waiting.set_result(delivery.message)
