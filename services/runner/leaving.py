"""The life of one run, from `starting` to its final state, as a pure state machine.

Leaving has stages: TERM, grace, KILL of everything, no process left, memory seen to be back. Each
is stamped in nanoseconds of CLOCK_MONOTONIC. A run that was made to leave has not failed, whatever
its exit status says: the cause was known before the signal.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace

from gleaner.bus.messages import Cause, CauseKind, RunState, Stages

_SECOND = 1_000_000_000
_ALIVE = (RunState.STARTING, RunState.RUNNING)
_LEAVING = (RunState.STOPPING, RunState.KILLING)
_CANCELS = (CauseKind.NOT_DESIRED, CauseKind.CATALOGUE, CauseKind.SHUTDOWN)


@dataclass(frozen=True, kw_only=True)
class Life:
    """Where a run stands and how it came there."""

    grace_seconds: float
    clearing_seconds: float
    state: RunState = RunState.STARTING
    cause: Cause | None = None
    noticed_ns: int | None = None
    signalled_ns: int | None = None
    """When the first signal was sent."""
    killed_ns: int | None = None
    exited_ns: int | None = None
    cleared_ns: int | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    problem: str | None = None
    """Why it could not start, or how it was lost."""

    @property
    def is_alive(self) -> bool:
        """Whether it may be made to leave."""
        return self.state in _ALIVE

    @property
    def has_processes(self) -> bool:
        """Whether a process of it may be left."""
        return self.state in _ALIVE or self.state in _LEAVING

    @property
    def due_ns(self) -> int | None:
        """When patience ends: with its grace, or with memory that does not come back."""
        if self.state is RunState.STOPPING and self.signalled_ns is not None:
            return self.signalled_ns + int(self.grace_seconds * _SECOND)
        if self.state is RunState.CLEARING and self.exited_ns is not None:
            return self.exited_ns + int(self.clearing_seconds * _SECOND)
        return None


def started(life: Life) -> Life:
    """Its first process runs."""
    return replace(life, state=RunState.RUNNING) if life.state is RunState.STARTING else life


def asked_to_leave(life: Life, cause: Cause, noticed_ns: int) -> Life:
    """Note the cause; the first one counts, and is never replaced by a later one."""
    if not life.is_alive:
        return life
    state = RunState.STOPPING if life.grace_seconds > 0 else RunState.KILLING
    return replace(life, state=state, cause=cause, noticed_ns=noticed_ns)


def hurried(life: Life, grace_seconds: float) -> Life:
    """Cut the grace short, because the service itself ends."""
    return replace(life, grace_seconds=min(life.grace_seconds, grace_seconds))


def signalled(life: Life, now_ns: int) -> Life:
    """A signal was sent; the first one is what reaction is measured by."""
    killed = now_ns if life.state is RunState.KILLING else None
    first = now_ns if life.signalled_ns is None else life.signalled_ns
    return replace(life, signalled_ns=first, killed_ns=life.killed_ns or killed)


def out_of_grace(life: Life) -> Life:
    """Its grace is over: what is left is killed."""
    return replace(life, state=RunState.KILLING) if life.state is RunState.STOPPING else life


def exited(
    life: Life, now_ns: int, *, code: int | None, number: int | None, problem: str | None
) -> Life:
    """No process is left; if one ever was, its memory is waited for."""
    if not life.has_processes:
        return life
    ended = replace(life, exited_ns=now_ns, exit_code=code, exit_signal=number, problem=problem)
    if code is None and number is None and problem is not None:
        return replace(ended, state=_final(ended))
    return replace(ended, state=RunState.CLEARING)


def cleared(life: Life, now_ns: int | None) -> Life:
    """Its GPUs were seen without it; None: nobody saw that, and patience is over."""
    if life.state is not RunState.CLEARING:
        return life
    return replace(life, state=_final(life), cleared_ns=now_ns)


def lost(life: Life, problem: str) -> Life:
    """It ended while nobody looked."""
    cause = life.cause
    if cause is not None and cause.kind is not CauseKind.SUPERVISOR_GONE:
        return replace(life, state=_final(life), problem=problem)
    return replace(life, state=RunState.LOST, problem=problem)


def stages(life: Life) -> Stages | None:
    """Return how long each stage of leaving took; None for a run that was not made to leave."""
    if life.cause is None:
        return None
    return Stages(
        noticed_to_term=_between(life.noticed_ns, life.signalled_ns),
        term_to_exit=_between(life.signalled_ns, life.exited_ns),
        exit_to_clear=_between(life.exited_ns, life.cleared_ns),
        noticed_to_clear=_between(life.noticed_ns, life.cleared_ns),
    )


def reason(life: Life) -> str:
    """Return the state in words."""
    cause = life.cause.text if life.cause else ""
    match life.state:
        case RunState.STOPPING:
            return f"TERM was sent: {cause}"
        case RunState.KILLING:
            return f"{_killing(life)}: {cause}"
        case RunState.CLEARING:
            return f"no process is left, its memory is not back yet: {cause or _exit(life)}"
        case RunState.EVICTED | RunState.CANCELLED:
            notes = [cause]
            if life.killed_ns is not None:
                notes.append(_killing(life))
            return "; ".join([f"{life.state.value}: {notes[0]}", *notes[1:], *_memory(life)])
        case RunState.SUCCEEDED | RunState.FAILED:
            return "; ".join([f"{life.state.value}: {_exit(life)}", *_memory(life)])
        case RunState.LOST:
            why = life.problem or cause or "how it ended is unknown"
            return "; ".join([f"lost: {why}", *_memory(life)])
        case _:
            return life.state.value


def _final(life: Life) -> RunState:
    if life.cause is not None:
        if life.cause.kind is CauseKind.SUPERVISOR_GONE:
            return RunState.LOST
        return RunState.CANCELLED if life.cause.kind in _CANCELS else RunState.EVICTED
    return RunState.SUCCEEDED if life.exit_code == 0 else RunState.FAILED


def _killing(life: Life) -> str:
    if life.grace_seconds <= 0:
        return "killed at once, as its entry says (grace 0 s)"
    return f"killed after a grace of {life.grace_seconds:g} s"


def _exit(life: Life) -> str:
    if life.exit_signal is not None:
        try:
            name = signal.Signals(life.exit_signal).name
        except ValueError:
            name = "a real-time signal"
        return f"ended by signal {life.exit_signal} ({name})"
    if life.exit_code is not None:
        return f"ended by itself with exit status {life.exit_code}"
    return life.problem or "how it ended is unknown"


def _memory(life: Life) -> list[str]:
    if life.exited_ns is None or life.cleared_ns is not None or life.problem is not None:
        return []
    if life.cause is not None and life.cause.kind is CauseKind.SHUTDOWN:
        return []  # nobody stayed to look
    return ["memory not given back, as far as anybody saw"]


def _between(start: int | None, end: int | None) -> float | None:
    return None if start is None or end is None else (end - start) / _SECOND
