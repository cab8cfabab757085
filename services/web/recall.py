"""Remember the last evictions from before we were started, if there is a recorder to ask."""

from __future__ import annotations

import asyncio
import json

from pydantic import JsonValue, ValidationError

from gleaner.bus.messages import EventKind, Run
from services.web.live import Live
from services.web.questions import NoAnswer, Questions

EVENTS = 200
"""A run that leaves makes about five."""
RETRY_SECONDS = 10.0


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


def run_of(row: dict[str, JsonValue]) -> Run | None:
    """Return the run that a recorded event is about; None if it makes no sense to us."""
    data = row.get("data")
    if not isinstance(data, dict):
        return None
    try:
        return Run.model_validate_json(json.dumps({**data, "node": row.get("node")}))
    except ValidationError:
        return None
