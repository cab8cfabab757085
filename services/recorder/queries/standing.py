"""Where each user stands with the month's quota, and how fast GPUs were given back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, case, func, literal, select, type_coerce, union_all

from services.recorder.queries.history import people
from services.recorder.queries.questions import Known, Question, Shown
from services.recorder.schema import tables
from services.recorder.schema.reading import Read
from services.recorder.values.spans import months

STAGES = ("noticed_to_term", "term_to_exit", "exit_to_clear", "noticed_to_clear")
_EVERYBODY = "*"
_SHARES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))


async def quotas(read: Read, question: Question, known: Known) -> list[Shown]:
    """Return GPU-hours and quota of each user and month; the latest month first."""
    begins = months(question.since, question.until, known.local)
    own, names = tables.use_1d.c, known.names
    later = [(own.start >= begin, place) for place, begin in reversed(list(enumerate(begins)))]
    month = case(*later, else_=0).label("month")
    used = func.sum(own.seconds).label("seconds")
    wanted = (own.device == tables.EVERY, own.start >= begins[0], own.start < question.until)
    by = select(month, own.user, used).where(*wanted, own.entry == names.number.get("", -1))
    asked = question.query.user
    seconds: dict[tuple[int, str], float] = {}
    for row in await read(by.group_by(month, own.user)):
        user = known.shown(names.text.get(row.user, ""))
        key = (row.month, user)
        seconds[key] = seconds.get(key, 0) + row.seconds
    # Who has a quota and used nothing stands at 0.
    for user in known.quotas.keys() - {_EVERYBODY}:
        seconds.setdefault((len(begins) - 1, known.shown(user)), 0)
    who = None if asked is None else known.shown(asked)
    found = [
        _standing(known, begins[place], user, used / 3600)
        for (place, user), used in seconds.items()
        if user and who in (None, user)
    ]
    found.sort(key=lambda one: (str(one["month"]), one["percent"] or 0, one["gpu_hours"]))
    return found[::-1]


def _standing(known: Known, month: datetime, user: str, hours: float) -> Shown:
    own = [known.quotas[one] for one in people(user, known.aliases) if one in known.quotas]
    quota = max(own, default=known.quotas.get(_EVERYBODY))
    return {
        "user": user,
        "month": f"{known.local.at(month):%Y-%m}",
        "gpu_hours": hours,
        "quota_gpu_hours": quota,
        "percent": None if quota is None else hours / quota * 100,
    }


async def latencies(read: Read, question: Question, known: Known) -> list[Shown]:
    """Return how long each stage of an eviction took."""
    own, node = tables.run.c, question.query.node
    pieces = []
    for stage in STAGES:
        column = own[f"{stage}_seconds"]
        thousandths = _rounded(type_coerce(column, BigInteger)).label("milliseconds")
        statement = select(
            literal(stage).label("stage"), thousandths, func.count().label("count")
        ).where(
            own.noticed_to_term_seconds.is_not(None),
            column.is_not(None),
            own.ended_at >= question.since,
            own.ended_at < question.until,
        )
        if node is not None:
            statement = statement.where(own.node == known.names.number.get(node, -1))
        pieces.append(statement.group_by(type_coerce(thousandths.element, BigInteger)))
    found: dict[str, list[tuple[int, int]]] = {stage: [] for stage in STAGES}
    for row in await read(union_all(*pieces)):
        found[row.stage].append((row.milliseconds, row.count))
    return [_latency(stage, sorted(counts)) for stage, counts in found.items()]


def _rounded(microseconds: Any) -> Any:
    """Return milliseconds; of seconds hundredths, so that a year of them is soon counted."""
    whole = (microseconds + 500) // 1000
    return case((whole < 1000, whole), else_=(whole + 5) // 10 * 10)


def _latency(stage: str, counts: Sequence[tuple[int, int]]) -> Shown:
    total = sum(count for _, count in counts)
    told: Shown = {"stage": stage, "count": total}
    for name, share in _SHARES:
        told[f"{name}_seconds"] = _percentile(counts, share * total)
    told["max_seconds"] = counts[-1][0] / 1000 if counts else None
    return told


def _percentile(counts: Sequence[tuple[int, int]], wanted: float) -> Any:
    """Return the smallest value that so many do not exceed."""
    reached = 0
    for milliseconds, count in counts:
        reached += count
        if reached >= wanted:
            return milliseconds / 1000
    return None
