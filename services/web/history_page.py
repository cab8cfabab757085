"""The page of what happened: events, and runs of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from gleaner.bus.messages import EventKind, GpuCondition, RunState
from services.web import past
from services.web.desk import Desk, asked_of, left_out
from services.web.names import gpus_of
from services.web.recorded import ask, search
from services.web.spans import instant_of

HISTORY_ROWS = 100
REFRESH_HISTORY = 5
REFRESH_SEARCH = 60
"""Where the recorder has to look through its events."""
FILTERS = ("what", "node", "gpu", "kind", "user", "entry", "state", "since", "until")


async def show_history(desk: Desk, request: Request) -> Response:
    """Show events or runs, the newest first."""
    asked = asked_of(request)
    what: Literal["runs", "events"] = "runs" if asked.get("what") == "runs" else "events"
    misread = left_out(asked, (*FILTERS, "cursor"))
    if asked.get("what") not in (None, "", "events", "runs"):
        misread.append(f"There are events and runs, and no {asked['what']!r}; here are {what}.")
    about, problem = _filters(asked, what)
    latencies = {name: about[name] for name in ("node", "since", "until") if name in about}
    cursor = asked.get("cursor") or None
    found, stages = await asyncio.gather(
        search(desk.questions, what, limit=HISTORY_ROWS, cursor=cursor, **about),
        ask(desk.questions, "latencies", **latencies),
    )
    nodes = desk.nodes()
    given = {name: asked[name] for name in FILTERS if asked.get(name)}
    is_newest = cursor is None and "until" not in about
    is_search = what == "events" and bool(about.keys() & {"user", "entry", "state"})
    download = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in about.items()
    }
    return await desk.page(
        "history.html",
        root="./",
        here="history",
        refresh=(REFRESH_SEARCH if is_search else REFRESH_HISTORY) if is_newest else None,
        misread=misread,
        what=what,
        asked={name: asked.get(name, "") for name in FILTERS},
        link=_linker(given),
        is_filtered=bool(given.keys() - {"what"}),
        has_cursor=cursor is not None,
        events=[past.event_of(row) for row in found.rows] if what == "events" else [],
        runs=[past.run_of(row) for row in found.rows] if what == "runs" else [],
        cursor=found.cursor,
        looked_back_to=found.looked_back_to,
        problem=problem or found.problem,
        latencies=[past.latency_of(row) for row in stages.rows if row.get("count")],
        latencies_problem=stages.problem,
        stages=past.STAGES,
        kinds=[kind.value for kind in EventKind if kind is not EventKind.SAMPLES],
        states=[state.value for state in (RunState if what == "runs" else GpuCondition)],
        nodes=[(one.node, one.name) for one in nodes],
        gpus=gpus_of(nodes),
        download=urlencode(download),
    )


def _filters(asked: Mapping[str, str], what: str) -> tuple[dict[str, Any], str | None]:
    """Return what the recorder filters by, and what made no sense."""
    names = ("node", "gpu", "user", "entry", "state", *(("kind",) if what == "events" else ()))
    about: dict[str, Any] = {name: asked[name] for name in names if asked.get(name)}
    problem = None
    for name in ("since", "until"):
        try:
            if asked.get(name):
                about[name] = instant_of(asked[name], is_end=name == "until")
        except (ValueError, OverflowError):
            problem = (
                f"{asked[name]!r} is no date and was left out; dates are written like 2026-11-21."
            )
    return about, problem


def _linker(given: Mapping[str, str]) -> Any:
    """Return a function for templates: an address with some of it changed, None to drop it."""

    def link(**changes: str | None) -> str:
        joint = {**given, **changes}
        return "?" + urlencode({name: value for name, value in joint.items() if value})

    return link
