"""The page of one GPU, and what the page of a node shows of the past."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gleaner.bus.messages import GpuReading
from services.web.history import past
from services.web.history.desk import SPAN, Asked, Desk, first_problem, is_silent, span_values
from services.web.history.recorded import Found, ask, nothing
from services.web.history.series import Series, data_of, host_series_of, series_of
from services.web.history.spans import CHART_PRESETS, Span, span_of
from services.web.misread import left_out, unknown
from services.web.shown import readings
from services.web.shown.names import find_gpu, index_of
from services.web.shown.view import Gpu, Node
from services.web.streaming.live_parts import HAPPENED, RECORDER, Part
from services.web.streaming.sharing import Written

SERIES_ROWS = 2000
RECENT_EVENTS, RECENT_RUNS, RECENT_SESSIONS = 15, 10, 8
RECENT_NODE_EVENTS = 10
SAMPLES_SECONDS = 10.0
"""There is a sample that often, unless somebody set it otherwise."""
ROOT = "../../../"
SESSIONS_SECONDS = 60.0
NODE_WORDS = ("answer", "refresh")
NODE_PARTS = ("charts", "happened")
GPU_PARTS = ("now", *NODE_PARTS, "sessions")


async def past_of_node(desk: Desk, node: str, asked: Asked) -> dict[str, Any]:
    """Return what the page of a node shows below what is now."""
    span = span_of(asked.words, CHART_PRESETS, desk.range_of_charts(asked.at), asked.at)
    events, series, of_host = await asyncio.gather(
        ask(desk.questions, "events", most=RECENT_NODE_EVENTS, node=node)
        if asked.wants("happened")
        else nothing(),
        _series(desk, span, asked, node=node),
        _series(desk, span, asked, node=node, of="host"),
    )
    return {
        "place": asked.place,
        "part": asked.part,
        "wants": asked.wants,
        "misread": left_out(asked.words, (*SPAN, *NODE_WORDS)),
        "live": _live(node, span),
        "events": [past.event_of(row) for row in events.rows],
        "problem": first_problem(series, of_host, events),
        "silent": is_silent(series, of_host, events),
        **desk.nothing(span, asked.at),
        **chart_values(series, span, asked.words, host_series_of(of_host.rows, span)),
    }


async def show_node_part(desk: Desk, request: Request) -> Response:
    """Answer with what is new below the page of a node."""
    node = request.path_params["node"]

    async def write(asked: Asked) -> Written:
        known = [one for one in (desk.node(node),) if one is not None]
        values = await past_of_node(desk, node, asked)
        return await desk.page("node.html", asked, root="../", only=node, nodes=known, **values)

    return await desk.answer(request, write, NODE_PARTS)


async def show_gpu(desk: Desk, request: Request) -> Response:
    """Show one GPU: now, and over time."""
    name, wanted = request.path_params["node"], request.path_params["gpu"]

    async def write(asked: Asked) -> Written:
        node = desk.node(name)
        gpu = find_gpu(node, wanted) if node else None
        if node is None or gpu is None:
            text = (
                unknown("GPU", wanted, map(index_of, node.gpus), f" on node {name!r}")
                if node
                else unknown("node", name, (one.node for one in desk.nodes()))
            )
            why = "It may have been renamed, or was never heard since this page was started."
            return await desk.page(
                "missing.html", asked, 404, root=ROOT, here="", text=text, why=why
            )
        return await _write_gpu(desk, asked, node, gpu)

    return await desk.answer(request, write, GPU_PARTS)


async def _write_gpu(desk: Desk, asked: Asked, node: Node, gpu: Gpu) -> Written:
    span = span_of(asked.words, CHART_PRESETS, desk.range_of_charts(asked.at), asked.at)
    about = {"node": node.node, "gpu": gpu.gpu}
    # Before the recorder is asked: a beat that comes meanwhile is later than `asked.at`, and a
    # node that was heard in the future does not count as online.
    known = desk.live.fleet.node(node.node)
    views = known.gpus(asked.at) if known else ()
    view = next((one for one in views if one.gpu == gpu.gpu), None)
    reading = view.reading if view else None
    told = readings.readings_of(reading, node.readings_at) if reading else ()
    has_happened = asked.wants("happened")
    series, events, runs, sessions = await asyncio.gather(
        _series(desk, span, asked, **about),
        ask(desk.questions, "events", most=RECENT_EVENTS, **about) if has_happened else nothing(),
        ask(desk.questions, "runs", most=RECENT_RUNS, **about) if has_happened else nothing(),
        ask(desk.questions, "sessions", most=RECENT_SESSIONS, **about)
        if asked.wants("sessions")
        else nothing(),
    )
    return await desk.page(
        "gpu.html",
        asked,
        root=ROOT,
        here="",
        live=_live(node.node, span),
        misread=left_out(asked.words, SPAN),
        node=node,
        gpu=gpu,
        inventory=view.inventory if view else None,
        readings=[one for one in told if one.value is not None],
        missing=[one for one in told if one.value is None],
        used_by=_used_by(reading),
        events=[past.event_of(row) for row in events.rows],
        runs=[past.run_of(row) for row in runs.rows],
        sessions=[past.held_of(row) for row in sessions.rows],
        problem=first_problem(series, events, runs, sessions),
        silent=is_silent(series, events, runs, sessions),
        **desk.nothing(span, asked.at),
        **chart_values(series, span, asked.words),
    )


def _used_by(reading: GpuReading | None) -> dict[int, float | None]:
    """Return each process's share of the multiprocessors' time, as far as the driver tells."""
    processes = (reading.processes or ()) if reading else ()
    return {one.pid: one.utilization_percent for one in processes}


def _live(node: str, span: Span) -> dict[str, Part]:
    """Return the parts that follow the stream; charts of a span that is over do not."""
    found = {
        "now": Part(node=node, shows_now=True),
        "happened": Part(node=node, kinds=(*HAPPENED, RECORDER)),
        "sessions": Part(node=node, kinds=("samples",), pace_seconds=SESSIONS_SECONDS),
    }
    if not span.is_over:
        # A chart has nothing to show before its next point.
        step = span.length.total_seconds() / span.points
        pace = max(SAMPLES_SECONDS, step)
        found["charts"] = Part(node=node, kinds=("samples", RECORDER), pace_seconds=pace)
    return found


async def _series(desk: Desk, span: Span, asked: Asked, **about: str) -> Found:
    if not asked.wants("charts"):
        return Found()
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
