"""A series that is finer than five minutes: made of the samples themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from services.recorder.queries.questions import Known, Question
from services.recorder.schema import tables
from services.recorder.schema.reading import Read
from services.recorder.values import mig, rollup, samples
from services.recorder.values.columns import to_microseconds
from services.recorder.values.rollup import FIVE_MINUTES, Kind


async def of_gpus(
    read: Read, question: Question, known: Known, devices: list[int]
) -> Iterable[rollup.Totals]:
    """Return what the samples of some GPUs come to, bucket by bucket, the newest first."""
    wanted = set(devices)
    nodes = {known.names.number[known.names.device[one].node] for one in devices}
    found: dict[int, dict[Any, mig.Row]] = {}
    parents = {one: of for one, of in known.names.parents.items() if of in wanted}
    for text in await _chunks(read, question, nodes):
        every = list(samples.read(text, wanted | parents.keys()))
        divided = mig.divided((one["device"] for one in every), parents)
        mine = [one for one in every if one["device"] in wanted]
        for one in mig.without_doubles(mine, divided):
            if (bucket := _bucket(question, one["at"])) is not None:
                found.setdefault(bucket, {})[one["device"], one["at"]] = one
    return _totals(question, found, rollup.GPU)


async def of_hosts(read: Read, question: Question, nodes: list[int]) -> Iterable[rollup.Totals]:
    """Return what the samples of some hosts come to, in the same way."""
    found: dict[int, dict[Any, mig.Row]] = {}
    for text in await _chunks(read, question, nodes):
        for one in samples.read_host(text):
            if (bucket := _bucket(question, one["at"])) is not None:
                found.setdefault(bucket, {})[one["at"]] = one
    return _totals(question, found, rollup.HOST)


async def _chunks(read: Read, question: Question, nodes: Iterable[int]) -> Iterable[str]:
    own = tables.sample.c
    since, until = question.since - FIVE_MINUTES.width, rollup.end_of(question.until)
    some = select(own.data).where(own.slot >= since, own.slot < until, own.node.in_(nodes))
    return (row.data for row in await read(some))


def _bucket(question: Question, at: datetime) -> int | None:
    """Return the number of the bucket that a sample belongs to; None: it is not asked for."""
    if not question.since < at <= question.until:
        return None
    # A sample on the boundary belongs before it.
    return (to_microseconds(at) - 1) // (question.step // timedelta(microseconds=1))


def _totals(
    question: Question, found: Mapping[int, Mapping[Any, mig.Row]], kind: Kind
) -> Iterable[rollup.Totals]:
    step = question.step // timedelta(microseconds=1)
    return [
        rollup.of_samples(found[bucket].values(), kind)
        | {"start": tables.from_microseconds(bucket * step)}
        for bucket in sorted(found, reverse=True)
    ]
