"""Questions about history as they come over the bus, and their answers, beside the writer."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.messages import HistoryAnswer, HistoryQuery
from gleaner.settings import AccountingSettings
from services.recorder.queries.answers import answer
from services.recorder.queries.groups import Groups
from services.recorder.queries.history import BadQuestion, refusal_of
from services.recorder.queries.questions import Known
from services.recorder.queries.unknown import Unrecorded
from services.recorder.storage.failures import OF_THE_QUESTION, UNACCEPTABLE, UNREACHABLE, words_of
from services.recorder.store import Store
from services.recorder.upkeep.tidy import Tidying

logger = logging.getLogger(__name__)

QUESTIONS = 100
"""Waiting at most; more are told so."""


class Answering:
    """Takes in questions; each `run` answers one after the other."""

    def __init__(
        self, bus: Bus, store: Store, tidying: Tidying, accounting: AccountingSettings
    ) -> None:
        self._bus = bus
        self._store = store
        self._tidying = tidying
        self._accounting = accounting
        self._groups = Groups(accounting.groups_file)
        self._questions: asyncio.Queue[HistoryQuery] = asyncio.Queue(QUESTIONS)
        bus.subscribe(HistoryQuery, self._on_query)

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            query = await self._questions.get()
            if query.expires_at <= _now():
                continue
            try:
                answered = await self._answer_to(query)
            except Unrecorded as error:
                self._bus.publish(refusal_of(query, str(error), error.what))
            except BadQuestion as error:
                self._bus.publish(refusal_of(query, str(error)))
            except (*UNREACHABLE, *UNACCEPTABLE) as error:
                why, is_fault = words_of(error), not isinstance(error, OF_THE_QUESTION)
                logger.warning("a question about %s was not answered: %s", query.what, why)
                self._bus.publish(
                    refusal_of(query, f"history cannot be read: {why}", is_fault=is_fault)
                )
            else:
                self._bus.publish(answered)

    def _on_query(self, delivery: Delivery) -> None:
        delivery.acknowledge()
        query = delivery.message
        if not isinstance(query, HistoryQuery) or query.expires_at <= _now():
            return
        try:
            self._questions.put_nowait(query)
        except asyncio.QueueFull:
            why = "too many questions at once; ask again later"
            self._bus.publish(refusal_of(query, why, is_fault=True))

    async def _answer_to(self, query: HistoryQuery) -> HistoryAnswer:
        if not self._store.is_open:
            # Else no name would be known, and the answer be that nothing was recorded.
            raise OSError("the database is not open just now")
        known = Known(
            names=self._store.names,
            local=self._store.local,
            retention=self._tidying.retention(_now()),
            aliases=self._accounting.aliases,
            groups=self._groups,
            quotas=self._accounting.quota_gpu_hours,
        )
        return await answer(self._store.read, query, known, _now())


def _now() -> datetime:
    return datetime.now(UTC)
