"""Figures from the roll-ups: a series at a resolution that fits, and use by whatever is asked.

A cursor says where the page before ended and, of a series, which resolution it had: that stays the
same however long somebody takes to turn the pages.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import JsonValue
from sqlalchemy import BigInteger, Row, Select, case, func, literal, select, type_coerce

from gleaner.bus.messages import HistoryAnswer, HistoryQuery
from services.recorder import tables, use
from services.recorder.history import ANSWER_BYTES, LIMIT, BadQuestion
from services.recorder.retention import Retention
from services.recorder.rollup import DAY, FIVE_MINUTES, GAUGES, HOUR, STATES, start_of
from services.recorder.tables import from_microseconds, to_microseconds

POINTS = 500
MOST_POINTS = 5000
SPAN = timedelta(days=1)
"""Without `since`."""
HOURLY_SPAN = timedelta(days=62)
"""A longer span is summed by days, and begins and ends at midnight (UTC)."""
_HOUR = 3600.0
_TIERS = ((DAY, tables.sample_1d), (HOUR, tables.sample_1h), (FIVE_MINUTES, tables.sample_5m))
_WEIGHTED = tuple(f"{gauge}_{what}" for gauge in GAUGES for what in ("sum", "seconds"))


@dataclass(frozen=True, kw_only=True)
class Question:
    """A query for figures, with everything decided that it left open."""

    query: HistoryQuery
    since: datetime
    until: datetime
    step: timedelta
    """Of a series."""
    skip: int
    """Rows of pages before."""


def question_of(query: HistoryQuery, now: datetime) -> Question:
    """Return what a query asks for, or raise BadQuestion."""
    if not 1 <= query.limit <= LIMIT:
        raise BadQuestion(f"limit is {query.limit}; a page has 1 to {LIMIT} rows")
    points = POINTS if query.points is None else query.points
    if not 1 <= points <= MOST_POINTS:
        raise BadQuestion(f"points is {points}; a series has 1 to {MOST_POINTS}")
    if query.what == "series" and query.node is None and query.gpu is None:
        raise BadQuestion("a series is of one GPU or node; name it")
    until = query.until or now
    if query.cursor is not None:
        return _turned(query, query.cursor)
    since = query.since or (until - (SPAN if query.what == "series" else timedelta(days=30)))
    if since >= until:
        raise BadQuestion("since is not before until")
    step = timedelta(seconds=max(1, math.ceil((until - since).total_seconds() / points)))
    return Question(query=query, since=since, until=until, step=step, skip=0)


def statement_of(question: Question, retention: Retention, now: datetime) -> Select[Any]:
    """Return the SELECT whose rows `answer_of` puts together."""
    if question.query.what == "series":
        return _series(question, retention, now)
    return _usage(question, retention, now)


def answer_of(question: Question, found: Sequence[Row[Any]]) -> HistoryAnswer:
    """Return the page that the rows make."""
    query = question.query
    rows = [row._asdict() for row in found]
    shown = list(map(_point, rows)) if query.what == "series" else _shares(query, rows)
    left, page, size = shown[question.skip :], list[dict[str, JsonValue]](), 0
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


def _turned(query: HistoryQuery, cursor: str) -> Question:
    try:
        since, until, step, skip = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return Question(
            query=query,
            since=from_microseconds(since),
            until=from_microseconds(until),
            step=max(timedelta(seconds=1), timedelta(microseconds=step)),
            skip=max(0, int(skip)),
        )
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
        raise BadQuestion("the cursor is not one of this recorder's") from error


def _series(question: Question, retention: Retention, now: datetime) -> Select[Any]:
    age = now - question.since
    kept = {DAY.name: None, HOUR.name: retention.hours, FIVE_MINUTES.name: retention.five_minutes}
    for tier, table in _TIERS:
        limit = kept[tier.name]
        finer_is_gone = {
            DAY.name: age > retention.hours,
            HOUR.name: age > retention.five_minutes,
            FIVE_MINUTES.name: age > retention.samples,
        }[tier.name]
        if (limit is None or age <= limit) and (tier.width <= question.step or finer_is_gone):
            step = math.ceil(question.step / tier.width) * tier.width
            begin = start_of(question.since, tier.width)
            values: dict[str, Any] = {column.name: column for column in table.c}
            return _grouped(question, table, table.c.start, step, values, table.c.start >= begin)
    raw = tables.gpu_sample
    energy = func.coalesce(raw.c.energy_used_joules, raw.c.power_watts * raw.c.seconds)
    values = {"samples": literal(1), "seconds": raw.c.seconds, "energy_joules": energy}
    values["energy_seconds"] = raw.c.seconds * func.coalesce(energy * 0 + 1, 0)
    for state in STATES:
        values[f"{state}_seconds"] = case((raw.c.state == state, raw.c.seconds), else_=0)
    for gauge in GAUGES:
        value = raw.c[gauge]
        values[f"{gauge}_sum"] = func.coalesce(value * raw.c.seconds, 0)
        values[f"{gauge}_seconds"] = raw.c.seconds * func.coalesce(value * 0 + 1, 0)
        values[f"{gauge}_min"] = values[f"{gauge}_max"] = value
    # A sample on the boundary belongs before it.
    at = type_coerce(raw.c.at, BigInteger) - 1
    return _grouped(question, raw, at, question.step, values, raw.c.at > question.since)


def _grouped(
    question: Question, table: Any, at: Any, step: timedelta, values: Any, begins: Any
) -> Select[Any]:
    query, width = question.query, step // timedelta(microseconds=1)
    bucket = (type_coerce(at, BigInteger) // width * width).label("bucket")
    sums = ("samples", "seconds", *(f"{state}_seconds" for state in STATES))
    columns = [
        *(
            func.sum(values[name]).label(name)
            for name in (*sums, "energy_joules", "energy_seconds")
        ),
        *(func.sum(values[name]).label(name) for name in _WEIGHTED),
        *(func.min(values[f"{gauge}_min"]).label(f"{gauge}_min") for gauge in GAUGES),
        *(func.max(values[f"{gauge}_max"]).label(f"{gauge}_max") for gauge in GAUGES),
    ]
    ends = type_coerce(at, BigInteger) < to_microseconds(question.until)
    statement = select(bucket, literal(width).label("width"), *columns).where(begins, ends)
    if query.node is not None:
        statement = statement.where(table.c.node == query.node)
    if query.gpu is not None:
        statement = statement.where(table.c.gpu == query.gpu)
    return statement.group_by(bucket).order_by(bucket.desc())


def _point(row: dict[str, Any]) -> dict[str, JsonValue]:
    point: dict[str, JsonValue] = {
        "start": from_microseconds(row["bucket"]).isoformat(),
        "resolution_seconds": row["width"] / 1e6,
        # PostgreSQL sums whole numbers to a decimal.
        "samples": int(row["samples"]),
        "seconds": row["seconds"],
        "energy_joules": row["energy_joules"] if row["energy_seconds"] else None,
    }
    for state in STATES:
        point[f"{state}_seconds"] = row[f"{state}_seconds"]
    for gauge in GAUGES:
        point[gauge] = _mean(row, gauge)
        point[f"{gauge}_min"] = row[f"{gauge}_min"]
        point[f"{gauge}_max"] = row[f"{gauge}_max"]
    return point


def _usage(question: Question, retention: Retention, now: datetime) -> Select[Any]:
    query = question.query
    by = query.by or "user"
    is_short = question.until - question.since <= HOURLY_SPAN or by == "hour"
    is_hourly = is_short and (now - question.since <= retention.hours or by == "hour")
    of_users = by == "user" or query.user is not None
    if of_users:
        table = tables.use_1h if is_hourly else tables.use_1d
        names: Sequence[str] = use.SUMS
        limits: Sequence[str] = use.LIMITS
    else:
        table = tables.sample_1h if is_hourly else tables.sample_1d
        names = (
            "seconds",
            *(f"{state}_seconds" for state in STATES),
            "energy_joules",
            "utilization_percent_sum",
            "utilization_percent_seconds",
        )
        limits = ("utilization_percent_max",)
    start = type_coerce(table.c.start, BigInteger)
    day, hour = (one.width // timedelta(microseconds=1) for one in (DAY, HOUR))
    keys: dict[str, tuple[Any, ...]] = {
        "node": (table.c.node,),
        "gpu": (table.c.node, table.c.gpu),
        "hour": ((start % day // hour).label("hour"),),
    }
    if of_users:
        keys["user"] = (table.c.user, table.c.entry)
    key = keys.get(by, ((start // day * day).label("day"),))
    begin = start_of(question.since, (HOUR if is_hourly else DAY).width)
    columns = (
        *(func.sum(table.c[name]).label(name) for name in names),
        *(func.max(table.c[name]).label(name) for name in limits),
    )
    statement = select(*key, *columns).where(table.c.start >= begin, table.c.start < question.until)
    if query.node is not None:
        statement = statement.where(table.c.node == query.node)
    if query.gpu is not None:
        statement = statement.where(table.c.gpu == query.gpu)
    if query.user is not None:
        statement = statement.where(table.c.user == query.user)
    return statement.group_by(*key)


def _shares(query: HistoryQuery, rows: list[dict[str, Any]]) -> list[dict[str, JsonValue]]:
    by = query.by or "user"
    sums: dict[tuple[Any, ...], dict[str, Any]] = {}
    names: dict[tuple[Any, ...], dict[str, JsonValue]] = {}
    for row in rows:
        name = _name(by, row)
        key = tuple(name.values())
        names[key] = name
        before = sums.get(key)
        sums[key] = row if before is None else _together(before, row)
    in_order = sorted(sums, key=lambda key: [str(part or "") for part in key])
    if by in ("user", "node", "gpu"):
        in_order.sort(key=lambda key: -_used(sums[key]))
    elif by != "hour":
        in_order.reverse()
    return [names[key] | _hours(sums[key]) for key in in_order]


def _name(by: str, row: dict[str, Any]) -> dict[str, JsonValue]:
    if by == "user":
        return {"user": row["user"] or None, "entry": row["entry"] or None}
    if by == "hour":
        return {"hour": f"{row['hour']:02d}"}
    if "day" not in row:
        return {name: row[name] for name in ("node", "gpu") if name in row}
    day = from_microseconds(row["day"])
    if by == "month":
        return {"month": f"{day:%Y-%m}"}
    return {"week": f"{day:%G-W%V}"} if by == "week" else {"day": f"{day:%Y-%m-%d}"}


def _together(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    total = dict(one)
    for name, value in other.items():
        if name.endswith("_max") or name.startswith("memory_max"):
            total[name] = max((v for v in (one[name], value) if v is not None), default=None)
        elif isinstance(value, (int, float)) and name != "day":
            total[name] = one[name] + value
    return total


def _used(row: dict[str, Any]) -> float:
    if "idle_seconds" not in row:
        return float(row["seconds"])
    return float(row["busy_seconds"] + row["held_seconds"] + row["ours_seconds"])


def _hours(row: dict[str, Any]) -> dict[str, JsonValue]:
    gauge = "utilization_percent" if "utilization_percent_sum" in row else "utilization"
    used = _used(row)
    told: dict[str, JsonValue] = {"gpu_hours": used / _HOUR}
    for name, value in row.items():
        if name.endswith("_seconds") and not name.startswith(("utilization", "memory")):
            told[name.replace("_seconds", "_hours")] = value / _HOUR
    told["utilization_percent"] = _mean(row, gauge)
    told["utilization_percent_max"] = row[f"{gauge}_max"]
    # What was computed: 0.6 hours at 60 % for an hour.
    told["utilized_hours"] = row[f"{gauge}_sum"] / 100 / _HOUR
    told["energy_joules"] = row["energy_joules"]
    return told


def _mean(row: dict[str, Any], gauge: str) -> float | None:
    known = row[f"{gauge}_seconds"]
    return row[f"{gauge}_sum"] / known if known else None
