"""What happened, in words: the same on the page and in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from gleaner.bus.messages import EventKind

_NAMES_TOLD = 3
BOOTED_SECONDS = 900
"""A node that starts later did so for another reason."""


def tell_event(kind: str, data: Mapping[str, Any]) -> str:
    """Return what a recorded event says; also of a kind that we do not know."""
    match kind:
        case EventKind.NODE_STARTED:
            started = f"node started, version {data.get('version')}, source {data.get('source')}"
            return started + _tell_boot(data.get("uptime_seconds"))
        case EventKind.GPU:
            reasons = "; ".join(str(reason) for reason in data.get("reasons") or ())
            states = filter(None, (data.get("before"), data.get("state")))
            change = f"GPU {data.get('index')}: {' → '.join(map(str, states))}"
            return f"{change} ({reasons})" if reasons else change
        case EventKind.PEOPLE:
            return str(data.get("reason") or "people came or went")
        case EventKind.RUN:
            return f"run {data.get('run')} of {data.get('entry')}: {data.get('reason')}"
        case EventKind.PROBLEM:
            return f"problem: {data.get('text') or data.get('what')}"
        case EventKind.SHORT_PROCESS:
            who = data.get("user") or data.get("entry") or "somebody"
            what = f"pid {data.get('pid')}, {data.get('command') or 'no longer known'}"
            return f"GPU {data.get('index')}: {who} computed briefly ({what})"
        case EventKind.OVERFLOW:
            return f"{data.get('dropped')} events were dropped: nobody recorded them"
        case _:
            return " ".join([kind, *_pairs(data)])


def _tell_boot(uptime_seconds: object) -> str:
    """Say that a host was booted just before its node started."""
    if not isinstance(uptime_seconds, int | float) or not 0 <= uptime_seconds < BOOTED_SECONDS:
        return ""
    return f", {uptime_seconds:.0f} s after its host was booted"


def tell_clock(ahead: timedelta) -> str:
    """Say by how much a node's clock is wrong."""
    seconds = abs(ahead.total_seconds())
    far = f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
    return f"its clock is {far} {'ahead of' if ahead > timedelta() else 'behind'} ours"


def _pairs(data: Mapping[str, Any]) -> Iterator[str]:
    for name, value in data.items():
        yield f"{name}={value}"


def tell_simulated(nodes: Sequence[tuple[str, bool]], *, only: bool = False) -> str | None:
    """Say what of some nodes' past never happened, each named with whether it is simulated.

    Sums of use may have both in them, and nobody must take a demonstration for a fleet. `only`: one
    node was asked for. None: nothing is simulated.
    """
    found = [name for name, is_simulated in nodes if is_simulated]
    if not found:
        return None
    if len(found) == len(nodes):
        what = "This node is" if only else "All nodes are"
        return f"{what} simulated: nothing of this really happened."
    more = f" and {len(found) - _NAMES_TOLD} more" if len(found) > _NAMES_TOLD else ""
    kind, names = "node" if len(found) == 1 else "nodes", ", ".join(found[:_NAMES_TOLD])
    return f"Part of this is simulated and never really happened: that of {kind} {names}{more}."
