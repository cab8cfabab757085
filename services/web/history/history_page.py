"""The page of what happened: events, and runs of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Literal
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from gleaner.bus.messages import EventKind, GpuCondition, RunState
from services.web.history import past
from services.web.history.desk import Asked, Desk, is_silent, missing
from services.web.history.recorded import ask, search
from services.web.history.spans import instant_of
from services.web.misread import left_out, not_known_now, unknown
from services.web.shown.names import gpus_of, uuid_of
from services.web.streaming.live_parts import HAPPENED, RECORDER, Part
from services.web.streaming.sharing import Written

HISTORY_ROWS = 100
PARTS = ("history",)
FILTERS = ("what", "node", "gpu", "kind", "user", "entry", "state", "since", "until")
KINDS = tuple(kind.value for kind in EventKind if kind is not EventKind.SAMPLES)
What = Literal["runs", "events"]


async def show_history(desk: Desk, request: Request) -> Response:
    """Show events or runs, the newest first."""
    return await desk.answer(request, partial(_write, desk), PARTS)


async def _write(desk: Desk, address: Asked) -> Written:
    nodes = desk.nodes()
    asked = dict(address.words)
    if "gpu" in asked:
        asked["gpu"] = uuid_of(nodes, asked["gpu"])
    what: What = "runs" if asked.get("what") == "runs" else "events"
    about, misread = _filters(asked, what)
    if "since" in about and about["since"] >= address.at:
        misread.append(f"{asked['since']!r} lies in the future: nothing is recorded yet.")
    latencies = {name: about[name] for name in ("node", "since", "until") if name in about}
    cursor = asked.get("cursor") or None
    found, stages = await asyncio.gather(
        search(desk.questions, what, limit=HISTORY_ROWS, cursor=cursor, **about),
        ask(desk.questions, "latencies", **latencies),
    )
    if not found.rows:
        misread += not_known_now(asked, nodes)
    given = {name: asked[name] for name in FILTERS if asked.get(name)}
    is_over = "until" in about and about["until"] < address.at
    history = Part(kinds=(*_kinds(what, about), RECORDER), node=about.get("node"))
    download = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in about.items()
    }
    return await desk.page(
        "history.html",
        address,
        root="./",
        here="history",
        live={} if is_over else {"history": history},
        misread=misread,
        what=what,
        simulated=desk.simulated(asked.get("node")),
        asked={name: asked.get(name, "") for name in FILTERS},
        link=_linker(given),
        is_filtered=bool(given.keys() - {"what"}),
        has_cursor=cursor is not None,
        events=[past.event_of(row) for row in found.rows] if what == "events" else [],
        runs=[past.run_of(row) for row in found.rows] if what == "runs" else [],
        cursor=found.cursor,
        looked_back_to=found.looked_back_to,
        problem=found.problem or (stages.problem if stages.is_silent else None),
        silent=is_silent(found, stages),
        latencies=[past.latency_of(row) for row in stages.rows if row.get("count")],
        latencies_problem=missing(stages),
        stages=past.STAGES,
        kinds=KINDS,
        states=[state.value for state in (RunState if what == "runs" else GpuCondition)],
        nodes=[(one.node, one.name) for one in nodes],
        gpus=gpus_of(nodes),
        download=urlencode(download),
    )


def _kinds(what: What, about: Mapping[str, Any]) -> tuple[str, ...]:
    """Return by which kinds of events the page changes; how fast runs leave stands on it too."""
    if what == "runs":
        return ("run",)
    return ("run", about["kind"]) if "kind" in about else HAPPENED


def _filters(asked: Mapping[str, str], what: What) -> tuple[dict[str, Any], list[str]]:
    """Return what the recorder filters by, and what made no sense."""
    misread = left_out(asked, (*FILTERS, "cursor"))
    if asked.get("what") not in (None, "", "events", "runs"):
        misread.append(f"There are events and runs, and no {asked['what']!r}; here are {what}.")
    names = ("node", "gpu", "user", "entry", "state")
    about: dict[str, Any] = {name: asked[name] for name in names if asked.get(name)}
    if kind := asked.get("kind"):
        if what == "runs":
            misread.append("Runs have no kind, so it was left out.")
        elif kind in (*KINDS, EventKind.SAMPLES):
            about["kind"] = kind
        else:
            misread.append(f"{unknown('kind of event', kind, KINDS)} Here are all.")
    for name in ("since", "until"):
        try:
            if asked.get(name):
                about[name] = instant_of(asked[name], is_end=name == "until")
        except (ValueError, OverflowError):
            misread.append(
                f"{asked[name]!r} is no date and was left out; dates are written like 2026-11-21."
            )
    return about, misread


def _linker(given: Mapping[str, str]) -> Any:
    """Return a function for templates: an address with some of it changed, None to drop it."""

    def link(**changes: str | None) -> str:
        joint = {**given, **changes}
        return "?" + urlencode({name: value for name, value in joint.items() if value})

    return link
