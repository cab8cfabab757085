"""A question for figures, with everything decided that it left open, and its answer in pages.

A cursor says where the page before ended and which span and resolution it had: those stay the same
however long somebody takes to turn the pages.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import JsonValue

from gleaner.bus.messages import HistoryAnswer, HistoryQuery
from services.recorder.queries.groups import Groups
from services.recorder.queries.history import ANSWER_BYTES, LIMIT, BadQuestion
from services.recorder.schema.names import Names
from services.recorder.upkeep.retention import Retention
from services.recorder.values.columns import from_microseconds, to_microseconds
from services.recorder.values.local_time import EPOCH, LocalTime

POINTS = 500
MOST_POINTS = 5000
_SPANS = {"series": timedelta(days=1), "quotas": timedelta(0)}
"""Without `since`; of quotas: this month."""
_SPAN = timedelta(days=30)
_ROUND = timedelta(seconds=1)

Shown = dict[str, JsonValue]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What answers need beside the rows."""

    names: Names
    local: LocalTime
    retention: Retention
    aliases: Mapping[str, str] = field(default_factory=dict)
    groups: Groups = field(default_factory=Groups)
    quotas: Mapping[str, float] = field(default_factory=dict)

    def shown(self, user: str) -> str:
        """Return the name under which somebody's use is told."""
        return self.aliases.get(user, user)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A query for figures."""

    query: HistoryQuery
    since: datetime
    until: datetime
    step: timedelta
    """Of a series."""
    skip: int
    """Rows of pages before."""
    now: datetime


def question_of(query: HistoryQuery, now: datetime) -> Question:
    """Return what a query asks for, or raise BadQuestion."""
    if not 1 <= query.limit <= LIMIT:
        raise BadQuestion(f"limit is {query.limit}; a page has 1 to {LIMIT} rows")
    points = POINTS if query.points is None else query.points
    if not 1 <= points <= MOST_POINTS:
        raise BadQuestion(f"points is {points}; a series has 1 to {MOST_POINTS}")
    if query.what == "series" and query.node is None and query.gpu is None:
        raise BadQuestion("a series is of one GPU or node; name it")
    _refuse_what_is_not_theirs(query)
    if query.of is not None and (query.node is None or query.gpu is not None):
        raise BadQuestion("the series of a host is that of a node; name it, and no GPU")
    if query.cursor is not None:
        return _turned(query, query.cursor, now)
    until = query.until or now
    since = query.since or (until - _SPANS.get(query.what, _SPAN))
    if query.what == "quotas" and query.since is None:
        since -= _ROUND
    # First: who gave no end is not to be told of one.
    if since >= now:
        raise BadQuestion("since is not in the past: nothing is recorded yet")
    if since >= until:
        raise BadQuestion("since is not before until")
    # Before and after there is nothing, however much somebody asks for.
    since, until = max(since, EPOCH), min(until, now + timedelta(days=1))
    if since >= until:
        raise BadQuestion("until is before 1970: nothing was recorded then")
    step = timedelta(seconds=max(1, math.ceil((until - since).total_seconds() / points)))
    return Question(query=query, since=since, until=until, step=step, skip=0, now=now)


def page_of(question: Question, rows: Sequence[Shown]) -> HistoryAnswer:
    """Return one page of an answer."""
    query = question.query
    left, page, size = rows[question.skip :], list[Shown](), 0
    for one in left[: query.limit]:
        size += len(json.dumps(one))
        if page and size > ANSWER_BYTES:
            break
        page.append(one)
    cursor = None
    if len(left) > len(page):
        numbers = (to_microseconds(question.since), to_microseconds(question.until))
        step = question.step // timedelta(microseconds=1)
        text = json.dumps([*numbers, step, question.skip + len(page)])
        cursor = base64.urlsafe_b64encode(text.encode()).decode()
    return HistoryAnswer(client=query.client, id=query.id, rows=tuple(page), cursor=cursor)


def _refuse_what_is_not_theirs(query: HistoryQuery) -> None:
    fits = {
        "by": ("usage",),
        "points": ("series",),
        "of": ("series",),
        "user": ("usage", "quotas"),
        "kind": (),
        "entry": (),
        "state": (),
        "node": ("series", "usage", "latencies"),
        "gpu": ("series", "usage"),
    }
    for name, subjects in fits.items():
        if getattr(query, name) is not None and query.what not in subjects:
            raise BadQuestion(f"{name} does not go with {query.what}")


def _turned(query: HistoryQuery, cursor: str, now: datetime) -> Question:
    try:
        since, until, step, skip = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return Question(
            query=query,
            since=max(EPOCH, from_microseconds(since)),
            until=min(now + timedelta(days=1), from_microseconds(until)),
            step=max(_ROUND, timedelta(microseconds=step)),
            skip=max(0, int(skip)),
            now=now,
        )
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
        raise BadQuestion("the cursor is not one of this recorder's") from error
