"""From an event to the rows it becomes; pure, and wary of what a node may send."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from gleaner.bus.message import topic_of
from gleaner.bus.messages import Event, EventKind, Run
from services.recorder.index.mentions import (
    NAME_CHARACTERS,
    Mentions,
    clean,
    is_fit,
    mentions_of,
)
from services.recorder.intake.countable import Countable, countable

LARGEST = 2**53
"""A sequence number: what every reader of JSON keeps; Python's integers have no end."""
LONGEST_SECONDS = 1e9
"""A stage of an eviction."""

Row = dict[str, Any]


class Unfit(ValueError):
    """An event that no database could keep as it is; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What one event becomes."""

    event: Row | None
    mentions: Mentions | None = None
    """Of the event."""
    run: Row | None = None
    samples: tuple[Row, ...] = ()
    hosts: tuple[Row, ...] = ()


def rows_of(event: Event, received_at: datetime) -> Rows:
    """Return the rows of an event, or raise Unfit.

    An event whose data are not what its kind promises is kept as it came, and nothing more; of
    samples, what cannot be counted is.
    """
    if not 1 <= event.oldest_sequence <= event.sequence <= LARGEST:
        raise Unfit(f"sequence {event.sequence} (oldest {event.oldest_sequence}) cannot be")
    for name in ("stream", "kind", "boot_id"):
        text = getattr(event, name)
        if len(text) > NAME_CHARACTERS or "\0" in text:
            raise Unfit(f"{name} is longer than {NAME_CHARACTERS} characters or has a NUL in it")
    data, found = event.data, Countable()
    if event.kind == EventKind.SAMPLES:
        found = countable(event)
        if found.left is None:
            # They have rows of their own.
            return Rows(event=None, samples=found.samples, hosts=found.hosts)
        data = found.left
    gpu = data.get("gpu")
    row: Row = {
        "node": event.node,
        "stream": event.stream,
        "sequence": event.sequence,
        "kind": event.kind,
        "gpu": gpu if isinstance(gpu, str) and is_fit(gpu) else None,
        "at": event.at,
        "boot_id": event.boot_id,
        "received_at": received_at,
        "data": json.dumps(data, separators=(",", ":")),
    }
    mentions = mentions_of(event.kind, data)
    return Rows(
        event=row,
        mentions=mentions,
        run=_run(event),
        samples=found.samples,
        hosts=found.hosts,
    )


def number_of(topic: str, payload: bytes) -> tuple[str, str, int, int] | None:
    """Return node, stream, number and oldest number of an unreadable event, if that much is there.

    Its number will never come otherwise, and the watermark would wait for it for ever.
    """
    node = topic.rpartition("/event")[0].rpartition("/")[2]
    try:
        if topic != topic_of(Event, {"node": node}):
            return None
        body = json.loads(payload)
        stream, number, oldest = body["stream"], body["sequence"], body["oldest_sequence"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not (isinstance(stream, str) and isinstance(number, int) and isinstance(oldest, int)):
        return None
    is_whole = is_fit(stream) and 1 <= oldest <= number <= LARGEST and body.get("node") == node
    return (node, stream, number, oldest) if is_whole else None


def _run(event: Event) -> Row | None:
    if event.kind != EventKind.RUN:
        return None
    try:
        run = Run.model_validate_json(to_json({**event.data, "node": event.node}))
    except ValidationError:
        return None
    codes = (run.exit_code, run.exit_signal)
    took = () if run.stages is None else run.stages.model_dump().values()
    if any(seconds is not None and not abs(seconds) <= LONGEST_SECONDS for seconds in took):
        return None
    if not is_fit(run.run) or any(code is not None and abs(code) > 2**31 - 1 for code in codes):
        return None
    stages = run.stages
    return {
        "node": run.node,
        "run": run.run,
        "first_at": run.at,
        "at": run.at,
        "entry": clean(run.entry),
        "gpus": json.dumps(run.gpus),
        "user": None if run.user is None else clean(run.user),
        "state": run.state.value,
        "is_final": run.state.is_final,
        "reason": clean(run.reason),
        "started_at": run.started_at,
        "ended_at": run.exited_at or (run.at if run.state.is_final else None),
        "cause_kind": run.cause.kind.value if run.cause else None,
        "cause_text": clean(run.cause.text) if run.cause else None,
        "exit_code": run.exit_code,
        "exit_signal": run.exit_signal,
        "noticed_to_term_seconds": stages.noticed_to_term if stages else None,
        "term_to_exit_seconds": stages.term_to_exit if stages else None,
        "exit_to_clear_seconds": stages.exit_to_clear if stages else None,
        "noticed_to_clear_seconds": stages.noticed_to_clear if stages else None,
        "simulated": run.simulated,
    }
