"""From the samples of an event to rows: those that can be counted, and what is left; pure.

A driver that says something absurd of one GPU, or a clock that is years off, must not take the
others' minute away, nor come into anybody's account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import JsonValue, ValidationError
from pydantic_core import to_json

from gleaner.bus.messages import Event, HostSample, Sample, Samples
from services.recorder.index.mentions import NAME_CHARACTERS, clean, is_fit

DAY_SECONDS = 86_400
FIRST_YEAR, LAST_YEAR = 2025, 9000
"""Nothing was sampled before; a clock that lost its time begins in 1970, 2000, 2015… What is ahead
of the recorder's own clock, whoever is right, waits until it is time to sum it up."""
USERS = 100
"""Of one GPU at one moment."""
_LEAST = {"temperature_celsius": -1000}
_MOST = {
    "memory_used_bytes": 2**50,
    "energy_joules": 1e12,
    "energy_used_joules": 1e10,
    "network_received_bytes_per_second": 1e12,
    "network_sent_bytes_per_second": 1e12,
}
_MOST_OF_ALL = 1e6
"""Percent, watts, degrees, megahertz, load."""

Row = dict[str, Any]
_S = TypeVar("_S", Sample, HostSample)


@dataclass(frozen=True, kw_only=True)
class Countable:
    """What becomes of the samples of one event."""

    samples: tuple[Row, ...] = ()
    hosts: tuple[Row, ...] = ()
    left: dict[str, JsonValue] | None = None
    """What cannot be counted, as it came; None: everything can."""


def countable(event: Event) -> Countable:
    """Return what can be counted of an event of samples."""
    said, said_of_host = _parsed(event.data)
    samples = [_row(one, event.node) for one in said]
    hosts = [_host_row(one) for one in said_of_host]
    if not any((*samples, *hosts)):
        return Countable(left=event.data)
    left = {
        "samples": _left(event.data, "samples", samples),
        "host": _left(event.data, "host", hosts),
    }
    return Countable(
        samples=tuple(row for row in samples if row),
        hosts=tuple(row for row in hosts if row),
        left={name: some for name, some in left.items() if some} or None,
    )


def _parsed(
    data: dict[str, JsonValue],
) -> tuple[Sequence[Sample | None], Sequence[HostSample | None]]:
    """Return the samples of GPUs and host; None in place of what is none."""
    try:
        said = Samples.model_validate_json(to_json(data))
    except ValidationError:
        return _each(Sample, data.get("samples")), _each(HostSample, data.get("host"))
    return said.samples, said.host


def _each(kind: type[_S], said: JsonValue) -> list[_S | None]:
    return [_one(kind, one) for one in said] if isinstance(said, list) else []


def _one(kind: type[_S], said: JsonValue) -> _S | None:
    try:
        return kind.model_validate_json(to_json(said))
    except ValidationError:
        return None


def _left(data: dict[str, JsonValue], name: str, rows: Sequence[Row | None]) -> JsonValue:
    said = data.get(name)
    if not isinstance(said, list):
        return said
    return [one for one, row in zip(said, rows, strict=True) if row is None]


def _row(sample: Sample | None, node: str) -> Row | None:
    if sample is None or not (is_fit(sample.gpu) and is_fit(sample.state)):
        return None
    row = {
        "node": node,
        **sample.model_dump(exclude={"users"}),
        "users": _users(sample),
        # What nearly all are takes no room.
        "schedulable": None if sample.schedulable else False,
    }
    return row if _counts(row) else None


def _host_row(sample: HostSample | None) -> Row | None:
    if sample is None:
        return None
    row = sample.model_dump()
    return row if _counts(row) else None


def _counts(row: Row) -> bool:
    """Whether sums over such rows stay what they are."""
    numbers = ((name, value) for name, value in row.items() if isinstance(value, (int, float)))
    return (
        # A number that is none (NaN) is in no range.
        all(
            _LEAST.get(name, 0) <= number <= _MOST.get(name, _MOST_OF_ALL)
            for name, number in numbers
        )
        and 0 < row["seconds"] <= DAY_SECONDS
        and FIRST_YEAR <= row["at"].year < LAST_YEAR
    )


def _users(sample: Sample) -> list[Row] | None:
    if sample.users is None:
        return None
    # The same name in different rows has to be the same; how many there are is a node's choice.
    users = [user.model_dump() for user in sample.users[:USERS]]
    for user in users:
        for name in ("user", "run", "entry", "container"):
            user[name] = user[name] and clean(user[name])[:NAME_CHARACTERS]
        if not 0 <= (user["memory_used_bytes"] or 0) <= _MOST["memory_used_bytes"]:
            user["memory_used_bytes"] = None
    return users
