"""The page of use: by user, group, node, model, and over time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from gleaner.keeping import zone_of
from services.web.history import quiet, used
from services.web.history.desk import (
    PERIODS,
    SPAN,
    Asked,
    Desk,
    first_problem,
    is_silent,
    missing,
    span_values,
)
from services.web.history.recorded import Found, ask
from services.web.history.spans import DAY, USAGE_PRESETS, Span, span_of
from services.web.misread import left_out, not_known_now
from services.web.streaming.live_parts import RECORDER, Part
from services.web.streaming.sharing import Written

USAGE_ROWS = 5000
PARTS = ("usage",)
PACE_SECONDS, PACE_LONG_SECONDS = 60, 300
"""Up to a week, and beyond: a minute more of samples is not to be seen there."""
FILTERS = ("node", "user")


async def show_usage(desk: Desk, request: Request) -> Response:
    """Show who used what."""
    return await desk.answer(request, partial(_write, desk), PARTS)


async def _write(desk: Desk, address: Asked) -> Written:
    asked = address.words
    span = span_of(asked, USAGE_PRESETS, "month", address.at)
    usage = Part(
        kinds=("samples", RECORDER),
        node=asked.get("node"),
        pace_seconds=PACE_SECONDS if span.length <= 7 * DAY else PACE_LONG_SECONDS,
    )
    misread = left_out(asked, (*SPAN, *FILTERS, "per"))
    per = asked.get("per", "")
    if per not in PERIODS:
        days = span.length / DAY
        wanted, per = per, "day" if days <= 62 else "week" if days <= 400 else "month"
        if wanted:
            known = ", ".join(PERIODS)
            misread.append(f"Nothing is summed up by {wanted!r}, but by {known}; here by {per}.")
    about = {name: asked[name] for name in FILTERS if asked.get(name)}
    kinds = [*dict.fromkeys(("user", "group", "node", "model", per, "weekday_hour", "hour"))]
    *found, quotas = await asyncio.gather(
        *(_usage(desk, span, by, about) for by in kinds),
        ask(desk.questions, "quotas", user=about.get("user")),
    )
    by_kind = dict(zip(kinds, found, strict=True))
    of_one = "user" in about
    week = (quiet.week_of_one if of_one else quiet.week_of)(by_kind["weekday_hour"].rows)
    periods = used.periods_of(by_kind[per].rows, per)
    stacks = [
        {"state": state, "hours": [getattr(one, f"{state}_hours") for one in periods]}
        for state in ("busy", "held", "ours")
    ]
    standing = used.quotas_of(quotas.rows)
    nobody_has_one = all(one.quota_gpu_hours is None for one in standing)
    tables = {by: used.used_by(by_kind[by].rows, by) for by in kinds[:4]}
    nodes = desk.nodes()
    return await desk.page(
        "usage.html",
        address,
        root="./",
        here="usage",
        live={} if span.is_over else {"usage": usage},
        misread=misread + ([] if by_kind["user"].rows else not_known_now(asked, nodes)),
        **span_values(span, asked, USAGE_PRESETS, FILTERS),
        asked={name: asked.get(name, "") for name in FILTERS},
        about=about,
        simulated=desk.simulated(asked.get("node")),
        nodes=[(one.node, one.name) for one in nodes],
        per=per,
        per_names=PERIODS,
        tables=tables,
        problems={by: _problem(one, by) for by, one in by_kind.items()},
        quotas=[] if nobody_has_one else standing,
        quotas_problem=missing(quotas),
        problem=first_problem(by_kind["user"], *(one for one in (*found, quotas) if one.is_silent)),
        silent=is_silent(*found, quotas),
        ours=used.used_by(by_kind["user"].rows, "user", ours=True),
        **desk.nothing(span, address.at),
        has_nothing=not any(one.rows or one.problem for one in found),
        week=week,
        zone=zone_of(desk.live.fleet.recorder),
        weekdays=quiet.WEEKDAYS,
        quiet=()
        if of_one
        else quiet.least_used(week) or quiet.least_used_hours(by_kind["hour"].rows),
        periods=periods,
        totals=used.totals_of(tables["user"], periods),
        chart_data={"periods": {"names": [one.name for one in periods], "stacks": stacks}},
        download_query=urlencode(
            {"since": span.since.isoformat(), "until": span.until.isoformat(), **about}
        ),
    )


async def _usage(desk: Desk, span: Span, by: str, about: Mapping[str, str]) -> Found:
    return await ask(
        desk.questions,
        "usage",
        most=USAGE_ROWS,
        by=by,
        since=span.since,
        until=span.until,
        **about,
    )


def _problem(found: Found, by: str) -> str | None:
    """Return why there is nothing; an older recorder answers beside the point."""
    if found.problem is None and found.rows and not any(_tells(row, by) for row in found.rows):
        return "This recorder does not answer that yet."
    return missing(found)


def _tells(row: Mapping[str, Any], by: str) -> bool:
    return ("weekday" if by == "weekday_hour" else by) in row
