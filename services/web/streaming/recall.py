"""Remember what was before we were started, if there is a recorder to ask.

The last evictions, and the last hour of utilization: of a few nodes at a time, so that neither the
recorder nor our own loop is held up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

from pydantic import BaseModel, JsonValue, ValidationError

from gleaner.bus.message import Utc
from gleaner.bus.messages import EventKind, Run
from services.web.questions import NoAnswer, Questions
from services.web.streaming.live import Live

EVENTS = 200
"""A run that leaves makes about five."""
RETRY_SECONDS = 10.0
PAUSE_SECONDS = 0.1
"""Between the last hours of some nodes and of others."""


class _LastHour(BaseModel):
    """One node's."""

    node: str
    start: Utc
    gpus: dict[str, tuple[int | None, ...]]
    """By the minute."""


async def recall(live: Live, questions: Questions) -> None:
    """Ask until somebody answers; then tell the live view about the runs that left."""
    while True:
        try:
            answer = await questions.history("events", kind=EventKind.RUN.value, limit=EVENTS)
        except NoAnswer:
            await asyncio.sleep(RETRY_SECONDS)
            continue
        for row in answer.rows:
            run = run_of(row)
            if run is not None:
                live.remember(run)
        return


async def recall_hour(live: Live, questions: Questions) -> None:
    """Ask until somebody answers; then tell the live view about the last hour of all GPUs."""
    cursor: str | None = None
    while True:
        try:
            answer = await questions.history("last_hour", cursor=cursor)
        except NoAnswer:
            await asyncio.sleep(RETRY_SECONDS)
            continue
        for row in answer.rows:
            with contextlib.suppress(ValidationError):
                one = _LastHour.model_validate(row)
                live.remember_hour(one.node, one.start, one.gpus)
        cursor = answer.cursor
        if cursor is None:
            return
        await asyncio.sleep(PAUSE_SECONDS)


def run_of(row: dict[str, JsonValue]) -> Run | None:
    """Return the run that a recorded event is about; None if it makes no sense to us."""
    data = row.get("data")
    if not isinstance(data, dict):
        return None
    try:
        return Run.model_validate_json(json.dumps({**data, "node": row.get("node")}))
    except ValidationError:
        return None
