"""Answer what people and programs ask for; asked twice, it is done once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import assert_never

from gleaner.bus.messages import Drain, Pause, Request, RequestKind, Response
from services.scheduler import crashes
from services.scheduler.state import State

REMEMBERED = 1000
"""Answers kept for requests that come again."""


class _Refused(Exception):
    """A request that is not done; the text is the answer."""


def answer(state: State, request: Request) -> tuple[State, Response]:
    """Do what is asked, or say why not."""
    known = state.answered.get(request.id)
    if known is not None:
        return state, known
    try:
        _check(state, request)
        state, text = _do(state, request)
        response = _response(state, request, ok=True, text=text)
    except _Refused as refusal:
        response = _response(state, request, ok=False, text=str(refusal))
    kept = list(state.answered.items())[-REMEMBERED + 1 :]
    answered = MappingProxyType(dict([*kept, (request.id, response)]))
    return replace(state, answered=answered), response


def _response(state: State, request: Request, *, ok: bool, text: str) -> Response:
    return Response(client=request.client, id=request.id, ok=ok, text=text, at=state.now)


def _check(state: State, request: Request) -> None:
    if request.expires_at <= state.now:
        raise _Refused(
            f"it expired at {_clock(request.expires_at)} and here it is {_clock(state.now)}: "
            "nothing was done (do the clocks differ?)"
        )
    if not state.is_settled:
        raise _Refused("the scheduler is still listening to what there is; ask again in 2 s")
    if request.duration_seconds is not None and not 0 < request.duration_seconds <= 366 * 86400:
        raise _Refused(f"{request.duration_seconds:g} s is no duration: between 0 s and a year")
    if request.node is None:
        if request.entry is not None:
            raise _Refused(f"on which node is {request.entry} meant?")
        return
    _check_names(state, request.node, request.entry)


def _check_names(state: State, name: str, entry: str | None) -> None:
    node = state.nodes.get(name)
    held_to = {pause.node for pause in state.pauses} | {drain.node for drain in state.drains}
    if node is None and name not in held_to:
        raise _Refused(f"there is no node {name}; there is {_list(state.nodes)}")
    if entry is None or node is None or node.catalogue is None:
        return
    names = [one.name for one in node.catalogue.entries]
    paused = [pause.entry for pause in state.pauses if pause.node == name]
    if entry not in names and entry not in paused:
        raise _Refused(f"{name} has no workload {entry}; it has {_list(names)}")


def _do(state: State, request: Request) -> tuple[State, str]:
    match request.kind:
        case RequestKind.PAUSE:
            return _pause(state, request)
        case RequestKind.RESUME:
            return _resume(state, request)
        case RequestKind.DRAIN:
            return _drain(state, request)
        case RequestKind.UNDRAIN:
            return _undrain(state, request)
        case _:
            assert_never(request.kind)


def _pause(state: State, request: Request) -> tuple[State, str]:
    until = None
    if request.duration_seconds is not None:
        until = state.now + timedelta(seconds=request.duration_seconds)
    pause = Pause(
        node=request.node,
        entry=request.entry,
        reason=request.reason,
        by=request.by,
        until=until,
        at=state.now,
    )
    others = tuple(one for one in state.pauses if not _is_about(one, request))
    state = _touched(replace(state, pauses=(*others, pause)), request.node)
    how_long = f"until {_clock(until)}" if until else "until resumed"
    return state, f"{_scope(request)} is paused {how_long}"


def _resume(state: State, request: Request) -> tuple[State, str]:
    others = tuple(one for one in state.pauses if not _is_about(one, request))
    done = [f"{_scope(request)} is resumed"] if others != state.pauses else []
    if request.node is not None and request.entry is not None:
        left = crashes.forget(state.crashes, request.node, request.entry)
        if len(left) != len(state.crashes):
            state = replace(state, crashes=left)
            done.append("how it ended before is forgotten")
    state = _touched(replace(state, pauses=others), request.node)
    done = done or [f"{_scope(request)} was not paused"]
    still = [_scope(pause) for pause in others if _still_holds(pause, request)]
    return state, "; ".join([*done, f"still paused: {_list(still)}"] if still else done)


def _still_holds(pause: Pause, resume: Request) -> bool:
    """Whether who ended another pause would wonder why nothing starts."""
    if resume.node is None:
        return True
    return pause.entry is None and pause.node in (None, resume.node)


def _drain(state: State, request: Request) -> tuple[State, str]:
    node = _node_to_drain(request)
    others = tuple(drain for drain in state.drains if drain.node != node)
    drain = Drain(node=node, reason=request.reason, by=request.by, at=state.now)
    state = _touched(replace(state, drains=(*others, drain)), node)
    return state, f"{node} is drained: nothing new starts there, what runs goes on"


def _undrain(state: State, request: Request) -> tuple[State, str]:
    node = _node_to_drain(request)
    others = tuple(drain for drain in state.drains if drain.node != node)
    if others == state.drains:
        return state, f"{node} was not drained"
    return _touched(replace(state, drains=others), node), f"{node} is no longer drained"


def _node_to_drain(request: Request) -> str:
    if request.node is None:
        raise _Refused(f"{request.kind.value} needs a node; to stop everything, pause the fleet")
    if request.entry is not None:
        raise _Refused(f"a whole node is drained; to stop {request.entry} alone, pause it")
    return request.node


def _touched(state: State, node: str | None) -> State:
    nodes = frozenset(state.nodes) if node is None else frozenset({node})
    return replace(state, touched=state.touched | nodes)


def _is_about(pause: Pause, request: Request) -> bool:
    return (pause.node, pause.entry) == (request.node, request.entry)


def _scope(request: Request | Pause) -> str:
    if request.node is None:
        return "the fleet"
    return f"{request.entry} on {request.node}" if request.entry else request.node


def _list(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(found[:10]) + (", …" if len(found) > 10 else "") if found else "none"


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
