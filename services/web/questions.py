"""Ask the scheduler and the recorder over the bus, and wait for the answer."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

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
from gleaner.comings import Comings

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
        self._questions: dict[str, HistoryQuery] = {}
        """To the recorder, without an answer so far."""
        self._comings = Comings()
        self._recorders: dict[str, Availability] = {}
        bus.subscribe(Availability, self._heard, service="recorder")

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

    async def history(self, what: Any, **filters: Any) -> HistoryAnswer:
        """Ask the recorder for a page of history, again if it comes back meanwhile.

        Raise NoAnswer if it does not answer.
        """
        if self._recorders and all(one.state == "offline" for one in self._recorders.values()):
            raise NoAnswer("the recorder is not running")
        question = HistoryQuery(
            id=uuid.uuid4().hex,
            client=CLIENT,
            what=what,
            expires_at=datetime.now(UTC) + timedelta(seconds=self._deadline_seconds),
            **filters,
        )
        self._questions[question.id] = question
        try:
            answer = await self._ask(question, question.id, "recorder")
        finally:
            del self._questions[question.id]
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

    def _heard(self, delivery: Delivery) -> None:
        """Note whether a recorder is there, so that nobody waits for one that is not."""
        said, instance = delivery.message, delivery.levels["instance"]
        if not isinstance(said, Availability):
            self._recorders.pop(instance, None)
        elif said.state == "online" or self._is_of_last_connection(said):
            self._recorders[instance] = said
        if self._comings.came(delivery):
            for question in self._questions.values():
                self._bus.publish(question)

    def _is_of_last_connection(self, said: Availability) -> bool:
        before = self._recorders.get(said.instance)
        return before is None or before.connection == said.connection

    def _answered(self, delivery: Delivery) -> None:
        waiting = self._waiting.get(delivery.levels["id"])
        if waiting is not None and delivery.message is not None and not waiting.done():
            waiting.set_result(delivery.message)
