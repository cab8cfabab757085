"""Whose process is it: of which of our runs, if any.

In this order: its cgroup is a run's; it descends from a run's supervisor, which adopts whatever
its workload leaves behind; its environment holds the run's token. Never by pid or name alone.

The token is the last resort, for what a supervisor that died left behind, or one that cannot be
seen from here: whoever runs as the workload's user can read it in /proc/PID/environ and carry it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from gleaner.bus.messages import Run, RunState
from services.collector.interface import Process

DEPTH = 100
"""Ancestors looked at; nobody nests deeper on purpose."""

_NOBODY_IS_LEFT = frozenset({RunState.CLEARING} | {one for one in RunState if one.is_final})

Look = Callable[[int], Process | None]


def run_of(process: Process, look: Look, runs: Iterable[Run]) -> Run | None:
    """Return the run a process belongs to, or None for everybody else's; `look` names ancestors."""
    runs = tuple(runs)
    return (
        _by_cgroup(process, runs)
        or _by_descent(process, look, runs)
        or _by_token(process, look, runs)
    )


def _by_cgroup(process: Process, runs: tuple[Run, ...]) -> Run | None:
    if not process.cgroup:
        return None
    path = process.cgroup.strip("/")
    for run in runs:
        own = (run.cgroup or "").strip("/")
        if own and (path == own or path.startswith(own + "/")):
            return run
    return None


def _by_descent(process: Process, look: Look, runs: tuple[Run, ...]) -> Run | None:
    supervisors = {
        (run.supervisor_pid, run.supervisor_started_ticks): run
        for run in runs
        if run.supervisor_pid is not None and run.supervisor_started_ticks is not None
    }
    ancestor: Process | None = process
    for _ in range(DEPTH if supervisors else 0):
        if ancestor is None or ancestor.pid <= 1:
            return None
        run = supervisors.get((ancestor.pid, ancestor.started_ticks))
        if run is not None:
            return run
        ancestor = look(ancestor.parent_pid) if ancestor.parent_pid > 1 else None
    return None


def _by_token(process: Process, look: Look, runs: tuple[Run, ...]) -> Run | None:
    if process.token is None:
        return None
    digest = hashlib.sha256(process.token.encode()).hexdigest()
    run = next((run for run in runs if run.token_digest == digest), None)
    if run is None or run.state in _NOBODY_IS_LEFT or _is_held(run, look):
        return None
    return run


def _is_held(run: Run, look: Look) -> bool:
    """Whether its supervisor lives: then all that is the run's descends from it."""
    supervisor = None if run.supervisor_pid is None else look(run.supervisor_pid)
    return supervisor is not None and supervisor.started_ticks == run.supervisor_started_ticks
