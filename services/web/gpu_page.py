"""The page of one GPU, and what the page of a node shows of the past."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.web import past, readings
from services.web.desk import SPAN, Desk, asked_of, first_problem, left_out, span_values
from services.web.names import find_gpu
from services.web.recorded import Found, ask
from services.web.series import Series, data_of, host_series_of, series_of
from services.web.spans import CHART_PRESETS, Span, span_of

SERIES_ROWS = 2000
RECENT_EVENTS, RECENT_RUNS, RECENT_SESSIONS = 15, 10, 8
RECENT_NODE_EVENTS = 10
REFRESH_GPU, REFRESH_NODE = 5, 60


async def past_of_node(desk: Desk, node: str, asked: Mapping[str, str]) -> dict[str, Any]:
    """Return what the page of a node shows below what is now."""
    span = span_of(asked, CHART_PRESETS, "day", desk.live.now())
    series, of_host, events = await asyncio.gather(
        _series(desk, span, node=node),
        _series(desk, span, node=node, of="host"),
        ask(desk.questions, "events", most=RECENT_NODE_EVENTS, node=node),
    )
    return {
        "refresh": REFRESH_NODE,
        "events": [past.event_of(row) for row in events.rows],
        "problem": first_problem(series, events),
        **chart_values(series, span, asked, host_series_of(of_host.rows, span)),
    }


async def show_gpu(desk: Desk, request: Request) -> Response:
    """Show one GPU: now, and over time."""
    now = desk.live.now()
    name, wanted = request.path_params["node"], request.path_params["gpu"]
    node = desk.node(name)
    gpu = find_gpu(node, wanted) if node else None
    if node is None or gpu is None:
        what = f"GPU {wanted!r} on node {name!r}" if node else f"node {name!r}"
        return await desk.page(
            "missing.html", 404, root="../../../", here="", text=f"There is no {what}."
        )
    asked = asked_of(request)
    span = span_of(asked, CHART_PRESETS, "day", now)
    about = {"node": name, "gpu": gpu.gpu}
    series, events, runs, sessions = await asyncio.gather(
        _series(desk, span, **about),
        ask(desk.questions, "events", most=RECENT_EVENTS, **about),
        ask(desk.questions, "runs", most=RECENT_RUNS, **about),
        ask(desk.questions, "sessions", most=RECENT_SESSIONS, **about),
    )
    known = desk.live.fleet.node(name)
    views = known.gpus(now) if known else ()
    view = next((one for one in views if one.gpu == gpu.gpu), None)
    reading = view.reading if view else None
    told = readings.readings_of(reading, node.readings_at) if reading else ()
    return await desk.page(
        "gpu.html",
        root="../../../",
        here="",
        refresh=REFRESH_GPU,
        misread=left_out(asked, SPAN),
        node=node,
        gpu=gpu,
        inventory=view.inventory if view else None,
        readings=[one for one in told if one.value is not None],
        missing=[one for one in told if one.value is None],
        events=[past.event_of(row) for row in events.rows],
        runs=[past.run_of(row) for row in runs.rows],
        sessions=[past.held_of(row) for row in sessions.rows],
        problem=first_problem(series, events, runs, sessions),
        **chart_values(series, span, asked),
    )


async def _series(desk: Desk, span: Span, **about: str) -> Found:
    return await ask(
        desk.questions,
        "series",
        most=SERIES_ROWS,
        since=span.since,
        until=span.until,
        points=span.points,
        **about,
    )


def chart_values(
    found: Found, span: Span, asked: Mapping[str, str], host: Series | None = None
) -> dict[str, Any]:
    series = series_of(found.rows, span)
    drawn = {"readings": series, "host": host}
    return {
        "series": series,
        "host": host,
        "series_problem": found.problem,
        "chart_data": {name: data_of(one) for name, one in drawn.items() if one},
        **span_values(span, asked, CHART_PRESETS),
    }
