"""The last hour of every GPU's utilization, for who begins to look; a few nodes a page.

Sums of five minutes, and single samples of what is not summed up yet: all of the hour from samples
would be a hundred times as much to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, type_coerce

from gleaner.bus.messages import HistoryAnswer, HistoryQuery
from services.recorder.queries.history import BadQuestion
from services.recorder.queries.questions import Shown
from services.recorder.schema import tables
from services.recorder.schema.names import Names
from services.recorder.schema.reading import Read
from services.recorder.values import samples
from services.recorder.values.columns import Fixed, to_microseconds
from services.recorder.values.rollup import FIVE_MINUTES, start_of
from services.recorder.values.units import parts_of

NODES = 20
"""Of a page: some ten milliseconds."""
MINUTES = 60
_MINUTE = timedelta(minutes=1)
_SAMPLES = timedelta(minutes=15)
"""Longer ago everything is summed up, or will not be looked at."""
_FILTERS = ("gpu", "of", "kind", "user", "entry", "state", "by", "points", "since", "until")

_Minutes = dict[int, dict[int, float]]
"""By device and minute."""


async def answer(read: Read, query: HistoryQuery, names: Names, now: datetime) -> HistoryAnswer:
    """Return one page, by the names of the nodes, or raise BadQuestion."""
    for name in _FILTERS:
        if getattr(query, name) is not None:
            raise BadQuestion(f"{name} does not go with last_hour")
    of_node: dict[str, dict[int, str]] = {}
    for number, device in names.device.items():
        if query.node in (None, device.node):
            of_node.setdefault(device.node, {})[number] = device.gpu
    left = sorted(node for node in of_node if node > (query.cursor or ""))
    nodes = left[: max(1, min(NODES, query.limit))]
    first = start_of(now, _MINUTE) - (MINUTES - 1) * _MINUTE
    devices = {number for node in nodes for number in of_node[node]}
    summed = await _summed(read, devices, first)
    found = _minutes_of(summed, first)
    numbers = [names.number[node] for node in nodes]
    single = await _single(read, devices, numbers, _summed_until(summed, now))
    for number, mine in single.items():
        found[number] = mine | found.get(number, {})
    rows: list[Shown] = [
        {
            "node": node,
            "start": first.isoformat(),
            "gpus": {
                gpu: [_whole(found[number].get(_minute(first) + one)) for one in range(MINUTES)]
                for number, gpu in of_node[node].items()
                if number in found
            },
        }
        for node in nodes
    ]
    cursor = nodes[-1] if len(left) > len(nodes) else None
    told = tuple(row for row in rows if row["gpus"])
    return HistoryAnswer(client=query.client, id=query.id, rows=told, cursor=cursor)


async def _summed(read: Read, devices: Iterable[int], first: datetime) -> list[Any]:
    own = tables.sample_5m
    known = tables.seconds_of(own, "utilization_percent_seconds")
    seconds = type_coerce(known, Fixed(parts_of("utilization_percent_seconds"))).label("seconds")
    return list(
        await read(
            select(own.c.device, own.c.start, own.c.utilization_percent_sum, seconds).where(
                own.c.device.in_(devices), own.c.start > first - FIVE_MINUTES.width
            )
        )
    )


def _minutes_of(summed: Iterable[Any], first: datetime) -> _Minutes:
    found: _Minutes = {}
    for row in summed:
        if row.seconds:
            mean, begin = row.utilization_percent_sum / row.seconds, _minute(row.start)
            mine = found.setdefault(row.device, {})
            mine |= {begin + one: mean for one in range(5) if begin + one >= _minute(first)}
    return found


def _summed_until(summed: Iterable[Any], now: datetime) -> datetime:
    """Return from when on single samples are needed."""
    last = max((row.start + FIVE_MINUTES.width for row in summed), default=now - _SAMPLES)
    return start_of(max(last, now - _SAMPLES), FIVE_MINUTES.width)


async def _single(read: Read, devices: set[int], nodes: Iterable[int], since: datetime) -> _Minutes:
    own = tables.sample.c
    chunks = await read(select(own.data).where(own.slot >= since, own.node.in_(nodes)))
    sums: dict[int, dict[int, list[float]]] = {}
    for chunk in chunks:
        for one in samples.read(chunk.data, devices):
            if one["utilization_percent"] is not None:
                # A sample stands for the time that ends at it.
                minute = (to_microseconds(one["at"]) - 1) // 60_000_000
                mine = sums.setdefault(one["device"], {}).setdefault(minute, [0, 0])
                mine[0] += one["utilization_percent"] * one["seconds"]
                mine[1] += one["seconds"]
    return {device: _means(mine) for device, mine in sums.items()}


def _means(sums: Mapping[int, list[float]]) -> dict[int, float]:
    return {minute: total / seconds for minute, (total, seconds) in sums.items()}


def _minute(at: datetime) -> int:
    return to_microseconds(at) // 60_000_000


def _whole(mean: float | None) -> int | None:
    return None if mean is None else max(0, min(100, int(mean + 0.5)))
