"""Questions about what was recorded, and one page of answer at a time, newest first.

A cursor names the last row of its page by the columns that order it. Those never change, so a row
that was there when the first page was asked for comes exactly once, whatever arrives meanwhile.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import JsonValue
from pydantic_core import to_jsonable_python
from sqlalchemy import Column, ColumnElement, Row, Select, Table, and_, literal, select, tuple_

from gleaner.bus.codec import MAX_PAYLOAD_BYTES
from gleaner.bus.messages import HistoryAnswer, HistoryQuery, RunState
from services.recorder.schema.names import Names
from services.recorder.schema.tables import (
    event,
    from_microseconds,
    named,
    run,
    session,
    to_microseconds,
)

LIMIT = 1000
ANSWER_BYTES = MAX_PAYLOAD_BYTES * 3 // 4
"""A page ends before it is too large for the bus; the cursor goes on from there."""

NOTHING = -1
"""The number of no name."""
NO_CURSOR = "the cursor is not one of this recorder's"


class BadQuestion(ValueError):
    """A query that cannot be answered; the text says why."""


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """Where the rows of one kind of question are, and what orders them for ever."""

    table: Table
    at: Column[datetime]
    order: tuple[Column[Any], ...]
    """`at` first; together unique."""


_SUBJECTS = {
    "events": _Subject(table=event, at=event.c.at, order=(event.c.at, event.c.id)),
    "runs": _Subject(table=run, at=run.c.first_at, order=(run.c.first_at, run.c.node, run.c.run)),
    "sessions": _Subject(table=session, at=session.c.begin, order=(session.c.begin, session.c.id)),
}


def check(query: HistoryQuery) -> None:
    """Raise BadQuestion where a query for rows cannot be answered, however much is recorded."""
    if not 1 <= query.limit <= LIMIT:
        raise BadQuestion(f"limit is {query.limit}; a page has 1 to {LIMIT} rows")
    for name in ("kind", "entry", "state"):
        if getattr(query, name) is not None and query.what not in ("events", "runs"):
            raise BadQuestion(f"{name} goes with events and runs, not with {query.what}")
    if query.user is not None and query.what == "samples":
        raise BadQuestion("user goes with sessions, runs, events and usage, not with samples")
    if query.of is not None and (query.what != "samples" or query.gpu is not None):
        raise BadQuestion("of goes with samples and series of a node, and with no GPU")
    if query.by is not None or query.points is not None:
        raise BadQuestion(f"by goes with usage and points with series, not with {query.what}")
    if query.since is not None and query.until is not None and query.since >= query.until:
        raise BadQuestion("since is not before until")
    for name in ("kind", "state"):
        given = getattr(query, name)
        if given is not None and query.what == "runs" and given not in list(RunState):
            states = ", ".join(RunState)
            raise BadQuestion(f"no run is {given!r}; {name} is one of {states}")


def statement_of(
    query: HistoryQuery, names: Names, aliases: Mapping[str, str] | None = None
) -> Select[Any]:
    """Return the SELECT that answers a query, one row more than its page; or raise BadQuestion."""
    check(query)
    subject = _SUBJECTS[query.what]
    wanted = between(query, *subject.order)
    if query.node is not None:
        wanted.append(_is_of(subject.table, query.node, names))
    if query.gpu is not None:
        wanted.append(_is_about(query.gpu, query.what, names))
    if query.user is not None:
        who = people(query.user, aliases or {})
        numbers = [names.number[one] for one in who if one in names.number]
        is_theirs = run.c.user.in_(who) if query.what == "runs" else session.c.user.in_(numbers)
        wanted.append(is_theirs)
    if query.what == "runs":
        of_run = ((run.c.state, query.kind), (run.c.state, query.state), (run.c.entry, query.entry))
        wanted += [column == value for column, value in of_run if value is not None]
    if query.what == "sessions" and (query.node or query.gpu):
        # Which they are stands in an index; the rows lie far apart.
        newest_first = (column.desc() for column in subject.order)
        of_page = select(session.c.id).where(*wanted).order_by(*newest_first)
        wanted = [session.c.id.in_(of_page.limit(query.limit + 1))]
    return rows_of(query).where(*wanted).limit(query.limit + 1)


def rows_of(query: HistoryQuery) -> Select[Any]:
    """Return the SELECT of all rows that a query is about, the newest first."""
    subject = _SUBJECTS[query.what]
    order = [column.label(f"order_{n}") for n, column in enumerate(subject.order)]
    newest_first = (column.desc() for column in subject.order)
    return named(subject.table).add_columns(*order).order_by(*newest_first)


def between(query: HistoryQuery, *order: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    """Return what a query says about when, and after which page, by the columns that order rows."""
    at, wanted = order[0], list[ColumnElement[bool]]()
    if query.since is not None:
        wanted.append(at >= query.since)
    if query.until is not None:
        wanted.append(at < query.until)
    if query.cursor is not None:
        wanted.append(_beyond(order, query.cursor))
    return wanted


def people(user: str, aliases: Mapping[str, str]) -> list[str]:
    """Return all the names of somebody who is known under one of them."""
    shown = aliases.get(user, user)
    return sorted({shown, *(name for name, alias in aliases.items() if alias == shown)})


def answer_of(query: HistoryQuery, found: Sequence[Row[Any]]) -> HistoryAnswer:
    """Return the page that rows of `statement_of(query)` make."""
    subject = _SUBJECTS[query.what]
    page: list[dict[str, JsonValue]] = []
    size = 0
    # The names of columns are no plain texts, which costs more than all the rest.
    names = [str(name) for name in found[0]._fields] if found else []
    for row in found[: query.limit]:
        shown = _shown(dict(zip(names, row, strict=True)))
        size += len(json.dumps(shown))
        if page and size > ANSWER_BYTES:
            break
        page.append(shown)
    more = len(found) > len(page)
    last = found[len(page) - 1] if more else None
    cursor = None if last is None else _cursor(subject, last)
    return HistoryAnswer(client=query.client, id=query.id, rows=tuple(page), cursor=cursor)


def refusal_of(
    query: HistoryQuery,
    why: str,
    unknown: Literal["node", "gpu", "user", "entry"] | None = None,
    *,
    is_fault: bool = False,
) -> HistoryAnswer:
    """Return the answer to a query that has none; `is_fault`: by no fault of who asked."""
    return HistoryAnswer(
        client=query.client, id=query.id, error=why, unknown=unknown, is_fault=is_fault
    )


def _is_of(table: Table, node: str, names: Names) -> ColumnElement[bool]:
    if "node" in table.c:
        column: ColumnElement[bool] = table.c.node == names.number.get(node, NOTHING)
        return column
    return table.c.device.in_(names.devices_of(node, None))


def _is_about(gpu: str, what: str, names: Names) -> ColumnElement[bool]:
    devices = names.devices_of(None, gpu)
    if what == "runs":
        # Its node has an index.
        of_nodes = run.c.node.in_({names.number[names.device[one].node] for one in devices})
        return and_(of_nodes, run.c.gpus.contains(json.dumps(gpu), autoescape=True))
    return session.c.device.in_(devices)


def _shown(row: dict[str, Any]) -> dict[str, JsonValue]:
    shown: dict[str, JsonValue] = to_jsonable_python(
        {name: value for name, value in row.items() if name != "id" and name[:6] != "order_"}
    )
    for name in ("data", "gpus"):
        if name in shown:
            shown[name] = json.loads(row[name])
    if "begin" in shown:
        shown |= {name: shown[name] or None for name in ("user", "entry", "container")}
    return shown


def _cursor(subject: _Subject, row: Row[Any]) -> str:
    first, *rest = (getattr(row, f"order_{place}") for place in range(len(subject.order)))
    text = json.dumps([to_microseconds(first), *rest], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode()


def _beyond(order: Sequence[ColumnElement[Any]], cursor: str) -> Any:
    """Return the condition for rows after those of the page that gave a cursor."""
    try:
        number, *rest = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        at = from_microseconds(number)
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
        raise BadQuestion(NO_CURSOR) from error
    expected = [column.type.python_type for column in order[1:]]
    is_too_large = any(isinstance(value, int) and abs(value) >= 2**63 for value in rest)
    if [type(value) for value in rest] != expected or is_too_large:
        raise BadQuestion(NO_CURSOR)
    key = (at, *rest)
    values = (literal(value, column.type) for value, column in zip(key, order, strict=True))
    return tuple_(*order) < tuple_(*values)
