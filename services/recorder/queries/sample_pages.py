"""Single samples, a page at a time: the newest five minutes first, in them node by node."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime
from typing import Any

from pydantic import JsonValue
from pydantic_core import to_jsonable_python
from sqlalchemy import Select, and_, or_, select, tuple_

from gleaner.bus.messages import HistoryAnswer, HistoryQuery
from services.recorder.queries.history import ANSWER_BYTES, NO_CURSOR, BadQuestion, check
from services.recorder.schema.names import Names
from services.recorder.schema.reading import Read
from services.recorder.schema.tables import sample
from services.recorder.values import samples
from services.recorder.values.columns import from_microseconds, to_microseconds
from services.recorder.values.rollup import FIVE_MINUTES

AT_ONCE = 6
"""Five minutes of one node that are read together."""

_Place = tuple[datetime, int, datetime, str]
"""Slot, node, instant and GPU (of the host none): in this order samples stay for ever."""


async def answer(read: Read, query: HistoryQuery, names: Names) -> HistoryAnswer:
    """Return one page of samples, or raise BadQuestion."""
    check(query)
    after = None if query.cursor is None else _place(query.cursor)
    found: list[tuple[_Place, samples.Row]] = []
    group = after[:2] if after else None
    is_first = True
    while len(found) <= query.limit:
        groups = [
            (row.slot, row.node)
            for row in await read(_groups(query, names, group, is_included=is_first))
        ]
        is_first = False
        if not groups:
            break
        found += [
            one for one in await _samples(read, query, names, groups) if _is_after(one, after)
        ]
        group = groups[-1]
    page, size = list[dict[str, JsonValue]](), 0
    for _, one in found[: query.limit]:
        shown = to_jsonable_python(one)
        size += len(json.dumps(shown))
        if page and size > ANSWER_BYTES:
            break
        page.append(shown)
    cursor = _cursor(found[len(page) - 1][0]) if len(found) > len(page) else None
    return HistoryAnswer(client=query.client, id=query.id, rows=tuple(page), cursor=cursor)


def _groups(
    query: HistoryQuery, names: Names, last: tuple[datetime, int] | None, *, is_included: bool
) -> Select[Any]:
    own = sample.c
    statement = select(own.slot, own.node).distinct()
    if query.gpu is not None:
        devices = names.devices_of(query.node, query.gpu)
        nodes = {names.number[names.device[one].node] for one in devices}
        statement = statement.where(own.node.in_(nodes))
    elif query.node is not None:
        statement = statement.where(own.node == names.number[query.node])
    if query.since is not None:
        statement = statement.where(own.slot >= query.since - FIVE_MINUTES.width)
    if query.until is not None:
        statement = statement.where(own.slot <= query.until)
    if last is not None:
        slot, node = last
        same = own.node <= node if is_included else own.node < node
        statement = statement.where(or_(own.slot < slot, and_(own.slot == slot, same)))
    return statement.order_by(own.slot.desc(), own.node.desc()).limit(AT_ONCE)


async def _samples(
    read: Read, query: HistoryQuery, names: Names, groups: list[tuple[datetime, int]]
) -> list[tuple[_Place, samples.Row]]:
    own = sample.c
    found: dict[_Place, samples.Row] = {}
    wanted = None if query.gpu is None else {*names.devices_of(query.node, query.gpu)}
    chunks = select(own.slot, own.node, own.data).where(tuple_(own.slot, own.node).in_(groups))
    for chunk in await read(chunks.order_by(own.id)):
        is_host = query.of == "host"
        for one in samples.read_host(chunk.data) if is_host else samples.read(chunk.data, wanted):
            at = one["at"]
            if query.since is not None and at < query.since:
                continue
            if query.until is not None and at >= query.until:
                continue
            gpu = {} if is_host else {"gpu": names.device[one.pop("device")].gpu}
            place = (chunk.slot, chunk.node, at, gpu.get("gpu", ""))
            found.setdefault(place, {"node": names.text[chunk.node]} | gpu | one)
    return sorted(found.items(), key=lambda one: one[0], reverse=True)


def _is_after(one: tuple[_Place, Any], place: _Place | None) -> bool:
    return place is None or one[0] < place


def _cursor(place: _Place) -> str:
    slot, node, at, gpu = place
    text = json.dumps([to_microseconds(slot), node, to_microseconds(at), gpu])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _place(cursor: str) -> _Place:
    try:
        slot, node, at, gpu = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if not isinstance(gpu, str) or not isinstance(node, int) or abs(node) >= 2**63:
            raise BadQuestion(NO_CURSOR)
        return from_microseconds(slot), node, from_microseconds(at), gpu
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
        raise BadQuestion(NO_CURSOR) from error
