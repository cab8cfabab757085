"""The pages behind the first one: a GPU, the use of the fleet, and what happened.

Each asks the recorder everything at once and shows what came, and what did not and why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from gleaner.bus.messages import EventKind, GpuCondition, RunState
from services.web import past, readings, used
from services.web.live import Live
from services.web.names import Names, find_gpu, gpus_of
from services.web.pages import Pages
from services.web.questions import Questions
from services.web.recorded import Found, ask, search
from services.web.series import data_of, series_of
from services.web.spans import (
    CHART_PRESETS,
    DAY,
    USAGE_PRESETS,
    Span,
    date_of,
    instant_of,
    span_of,
)

SERIES_ROWS = 2000
USAGE_ROWS = 5000
HISTORY_ROWS = 100
RECENT_EVENTS, RECENT_RUNS, RECENT_SESSIONS = 15, 10, 15
REFRESH_GPU, REFRESH_HISTORY, REFRESH_USAGE, REFRESH_NODE = 5, 5, 300, 60
TEXT_MAX = 200
"""Characters of a filter in an address."""
PERIODS = {"day": "Day", "week": "Week", "month": "Month"}
_FILTERS = ("what", "node", "gpu", "kind", "user", "entry", "state", "since", "until")


class Behind:
    """Answers for the pages behind the first one."""

    def __init__(self, live: Live, questions: Questions, pages: Pages, names: Names) -> None:
        self._live = live
        self._questions = questions
        self._pages = pages
        self._names = names

    def routes(self) -> list[Route]:
        """Return where they are."""
        return [
            Route("/node/{node}/gpu/{gpu}", self.gpu),
            Route("/usage", self.usage),
            Route("/history", self.history),
        ]

    async def of_node(self, node: str, asked: Mapping[str, str]) -> dict[str, Any]:
        """Return what the page of a node shows below what is now."""
        span = span_of(asked, CHART_PRESETS, "day", self._live.now())
        found = await self._series(span, node=node)
        return {"refresh": REFRESH_NODE, **_charts(found, span, asked)}

    async def gpu(self, request: Request) -> Response:
        """Show one GPU: now, and over time."""
        snapshot = self._live.snapshot()
        name, wanted = request.path_params["node"], request.path_params["gpu"]
        node = next((one for one in snapshot.nodes if one.node == name), None)
        gpu = find_gpu(node, wanted) if node else None
        if node is None or gpu is None:
            what = f"GPU {wanted!r} on node {name!r}" if node else f"node {name!r}"
            return await self._page(
                "missing.html", 404, root="../../../", here="", text=f"There is no {what}."
            )
        asked = _asked(request)
        span = span_of(asked, CHART_PRESETS, "day", snapshot.at)
        about = {"node": name, "gpu": gpu.gpu}
        series, events, runs, sessions = await asyncio.gather(
            self._series(span, **about),
            ask(self._questions, "events", most=RECENT_EVENTS, **about),
            ask(self._questions, "runs", most=RECENT_RUNS, **about),
            ask(self._questions, "sessions", most=RECENT_SESSIONS, **about),
        )
        known = self._live.fleet.node(name)
        views = known.gpus(snapshot.at) if known else ()
        view = next((one for one in views if one.gpu == gpu.gpu), None)
        reading = view.reading if view else None
        return await self._page(
            "gpu.html",
            root="../../../",
            here="",
            refresh=REFRESH_GPU,
            node=node,
            gpu=gpu,
            inventory=view.inventory if view else None,
            readings=readings.readings_of(reading) if reading else (),
            events=[past.event_of(row) for row in events.rows],
            runs=[past.run_of(row) for row in runs.rows],
            sessions=[past.held_of(row) for row in sessions.rows],
            problem=_first_problem(series, events, runs, sessions),
            gpus=gpus_of(snapshot),
            **_charts(series, span, asked),
        )

    async def usage(self, request: Request) -> Response:
        """Show who used what."""
        asked = _asked(request)
        span = span_of(asked, USAGE_PRESETS, "month", self._live.now())
        per = asked.get("per", "")
        if per not in PERIODS:
            days = span.length / DAY
            per = "day" if days <= 62 else "week" if days <= 400 else "month"
        kinds = ("user", "group", "node", "model", per, "weekday_hour", "hour")
        *found, quotas = await asyncio.gather(
            *(self._usage(span, by) for by in kinds), ask(self._questions, "quotas")
        )
        by_kind = dict(zip(kinds, found, strict=True))
        week = used.week_of(by_kind["weekday_hour"].rows)
        periods = used.periods_of(by_kind[per].rows, per)
        stacks = [
            {"state": state, "hours": [getattr(one, f"{state}_hours") for one in periods]}
            for state in ("busy", "held", "ours")
        ]
        tables = {by: used.used_by(by_kind[by].rows, by) for by in kinds[:4]}
        return await self._page(
            "usage.html",
            root="./",
            here="usage",
            refresh=REFRESH_USAGE,
            **_span(span, asked, USAGE_PRESETS),
            per=per,
            per_names=PERIODS,
            tables=tables,
            problems={by: _problem(one, by) for by, one in by_kind.items()},
            quotas=used.quotas_of(quotas.rows),
            quotas_problem=quotas.problem,
            problem=_first_problem(by_kind["user"]),
            ours=used.used_by(by_kind["user"].rows, "user", ours=True),
            week=week,
            weekdays=used.WEEKDAYS,
            quiet=used.least_used(week) or used.least_used_hours(by_kind["hour"].rows),
            periods=periods,
            totals=used.totals_of(tables["user"], periods),
            chart_data={"periods": {"names": [one.name for one in periods], "stacks": stacks}},
            download_query=urlencode(
                {"since": span.since.isoformat(), "until": span.until.isoformat()}
            ),
        )

    async def history(self, request: Request) -> Response:
        """Show events or runs, the newest first."""
        asked = _asked(request)
        what: Literal["runs", "events"] = "runs" if asked.get("what") == "runs" else "events"
        about, wanted, problem = _filters(asked, what)
        latencies = {name: about[name] for name in ("node", "since", "until") if name in about}
        is_wanted = wanted.run if what == "runs" else wanted.event
        cursor = asked.get("cursor") or None
        found, stages = await asyncio.gather(
            search(
                self._questions,
                what,
                is_wanted,
                limit=HISTORY_ROWS,
                cursor=cursor,
                **about,
            ),
            ask(self._questions, "latencies", **latencies),
        )
        snapshot = self._live.snapshot()
        given = {name: asked[name] for name in _FILTERS if asked.get(name)}
        is_newest = cursor is None and "until" not in about
        download = {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in about.items()
        }
        return await self._page(
            "history.html",
            root="./",
            here="history",
            refresh=REFRESH_HISTORY if is_newest else None,
            what=what,
            asked={name: asked.get(name, "") for name in _FILTERS},
            link=_linker(given),
            is_filtered=bool(given.keys() - {"what"}),
            is_searched=bool(wanted),
            has_cursor=cursor is not None,
            events=[past.event_of(row) for row in found.rows] if what == "events" else [],
            runs=[past.run_of(row) for row in found.rows] if what == "runs" else [],
            cursor=found.cursor,
            problem=problem or found.problem,
            latencies=[past.latency_of(row) for row in stages.rows if row.get("count")],
            latencies_problem=stages.problem,
            stages=past.STAGES,
            kinds=[kind.value for kind in EventKind if kind is not EventKind.SAMPLES],
            states=[state.value for state in (RunState if what == "runs" else GpuCondition)],
            nodes=[(one.node, one.name) for one in snapshot.nodes],
            gpus=gpus_of(snapshot),
            download=urlencode(download),
        )

    async def _series(self, span: Span, **about: str) -> Found:
        return await ask(
            self._questions,
            "series",
            most=SERIES_ROWS,
            since=span.since,
            until=span.until,
            points=span.points,
            **about,
        )

    async def _usage(self, span: Span, by: str) -> Found:
        return await ask(
            self._questions,
            "usage",
            most=USAGE_ROWS,
            by=by,
            since=span.since,
            until=span.until,
        )

    async def _page(self, template: str, status: int = 200, **values: Any) -> Response:
        now = self._live.now()
        html = await asyncio.to_thread(
            self._pages.fill, template, at=now, now=now, names=self._names, **values
        )
        return HTMLResponse(html, status)


def _asked(request: Request) -> dict[str, str]:
    return {name: value[:TEXT_MAX] for name, value in request.query_params.items()}


def _charts(found: Found, span: Span, asked: Mapping[str, str]) -> dict[str, Any]:
    series = series_of(found.rows, span)
    return {
        "series": series,
        "series_problem": found.problem,
        "chart_data": {"readings": data_of(series)} if series else None,
        **_span(span, asked, CHART_PRESETS),
    }


def _span(span: Span, asked: Mapping[str, str], presets: tuple[Any, ...]) -> dict[str, Any]:
    """Return what the choice of a range needs, with links one length back and forth."""
    kept = {"per": asked["per"]} if asked.get("per") in PERIODS else {}

    def moved(times: int) -> str:
        by = times * span.length
        return urlencode({**kept, **_dates(span.since + by, span.until + by)})

    return {
        "span": span,
        "presets": presets,
        "kept": kept,
        "since_date": date_of(span.since),
        "until_date": date_of(span.until, is_end=True),
        "earlier": moved(-1),
        "later": None if span.preset else moved(1),
        "span_query": urlencode(
            {"range": span.preset.name} if span.preset else _dates(span.since, span.until)
        ),
    }


def _dates(since: datetime, until: datetime) -> dict[str, str]:
    return {"since": f"{since:%Y-%m-%dT%H:%M}", "until": f"{until:%Y-%m-%dT%H:%M}"}


def _filters(asked: Mapping[str, str], what: str) -> tuple[dict[str, Any], past.Wanted, str | None]:
    """Return what the recorder filters by, what we do, and what made no sense."""
    about: dict[str, Any] = {name: asked[name] for name in ("node", "gpu") if asked.get(name)}
    if what == "events" and asked.get("kind"):
        about["kind"] = asked["kind"]
    problem = None
    for name in ("since", "until"):
        try:
            if asked.get(name):
                about[name] = instant_of(asked[name], is_end=name == "until")
        except (ValueError, OverflowError):
            problem = f"{asked[name]!r} is no date; dates are written like 2026-11-21."
    wanted = past.Wanted(**{name: asked.get(name, "") for name in ("user", "entry", "state")})
    return about, wanted, problem


def _linker(given: Mapping[str, str]) -> Any:
    """Return a function for templates: an address with some of it changed, None to drop it."""

    def link(**changes: str | None) -> str:
        joint = {**given, **changes}
        return "?" + urlencode({name: value for name, value in joint.items() if value})

    return link


def _problem(found: Found, by: str) -> str | None:
    """Return why there is nothing; an older recorder answers beside the point."""
    if found.problem is None and found.rows and not any(_tells(row, by) for row in found.rows):
        return "This recorder does not answer that yet."
    return found.problem


def _tells(row: Mapping[str, Any], by: str) -> bool:
    return ("weekday" if by == "weekday_hour" else by) in row


def _first_problem(*found: Found) -> str | None:
    return next((one.problem for one in found if one.problem), None)
