"""From an event to the rows it becomes; pure, and wary of what a node may send."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from gleaner.bus.message import topic_of
from gleaner.bus.messages import Event, EventKind, Run, Sample, Samples
from services.recorder.index.mentions import NAME_CHARACTERS, Mentions, clean, mentions_of

LARGEST = 2**63 - 1
"""What a BIGINT takes; Python's integers have no such end."""
DAY_SECONDS = 86_400
LONGEST_SECONDS = 1e9
"""A stage of an eviction."""
FIRST_YEAR, LAST_YEAR = 1970, 9000
USERS = 100
"""Of one GPU at one moment."""

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

    An event whose data are not what its kind promises is kept as it came, and nothing more.
    """
    if not 1 <= event.oldest_sequence <= event.sequence <= LARGEST:
        raise Unfit(f"sequence {event.sequence} (oldest {event.oldest_sequence}) cannot be")
    for name in ("stream", "kind", "boot_id"):
        text = getattr(event, name)
        if len(text) > NAME_CHARACTERS or "\0" in text:
            raise Unfit(f"{name} is longer than {NAME_CHARACTERS} characters or has a NUL in it")
    samples, hosts = _samples(event)
    if samples or hosts:
        # They have rows of their own.
        return Rows(event=None, samples=samples, hosts=hosts)
    gpu = event.data.get("gpu")
    row: Row = {
        "node": event.node,
        "stream": event.stream,
        "sequence": event.sequence,
        "kind": event.kind,
        "gpu": gpu if isinstance(gpu, str) and is_fit(gpu) else None,
        "at": event.at,
        "boot_id": event.boot_id,
        "received_at": received_at,
        "data": json.dumps(event.data, separators=(",", ":")),
    }
    mentions = mentions_of(event.kind, event.data)
    return Rows(event=row, mentions=mentions, run=_run(event))


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


def _samples(event: Event) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Return the samples of GPUs, and those of the host."""
    if event.kind != EventKind.SAMPLES:
        return (), ()
    try:
        said = Samples.model_validate_json(to_json(event.data))
    except ValidationError:
        return (), ()
    rows = tuple(
        {
            "node": event.node,
            **sample.model_dump(exclude={"users"}),
            "users": _users(sample),
            # What nearly all are takes no room.
            "schedulable": None if sample.schedulable else False,
        }
        for sample in said.samples
    )
    hosts = tuple(sample.model_dump() for sample in said.host)
    have_names = all(is_fit(row["gpu"]) and is_fit(row["state"]) for row in rows)
    return (rows, hosts) if have_names and all(map(_counts, (*rows, *hosts))) else ((), ())


def _counts(row: Row) -> bool:
    """Whether sums over such rows stay what they are."""
    numbers = ((name, value) for name, value in row.items() if isinstance(value, (int, float)))
    return (
        all(abs(number) <= _most(name) for name, number in numbers)
        and 0 < row["seconds"] <= DAY_SECONDS
        and FIRST_YEAR < row["at"].year < LAST_YEAR
    )


def _most(reading: str) -> float:
    """Return what no host or GPU reaches; sums of years of it fit into a BIGINT."""
    if reading.endswith("_bytes"):
        return 2**60
    return 1e12 if reading.startswith(("energy_", "network_")) else 1e9


def _users(sample: Sample) -> list[Row] | None:
    if sample.users is None:
        return None
    # The same name in different rows has to be the same; how many there are is a node's choice.
    users = [user.model_dump() for user in sample.users[:USERS]]
    for user in users:
        for name in ("user", "run", "entry", "container"):
            user[name] = user[name] and clean(user[name])[:NAME_CHARACTERS]
        if (user["memory_used_bytes"] or 0) > LARGEST:
            user["memory_used_bytes"] = None
    return users


def is_fit(name: str) -> bool:
    """Tell whether a name is short enough and has no NUL in it."""
    return 0 < len(name) <= NAME_CHARACTERS and "\0" not in name
