"""The reflex: which runs must leave, and why. Pure, local, and the only way a person is heard.

A person comes first, then a stranger's process, then doubt: nobody who watches, a GPU that gives
no answer. Nothing here knows of a scheduler or a broker.
"""

from __future__ import annotations

from collections.abc import Mapping

from gleaner.bus.messages import Cause, CauseKind, GpuCondition, GpuState
from services.runner.facts import Facts
from services.runner.timing import Timing


def decide(
    facts: Facts, runs: Mapping[str, tuple[str, ...]], now: float, timing: Timing
) -> list[tuple[str, Cause]]:
    """Return the runs (id to its GPUs) that must leave now, each with the cause."""
    everybody = _cause_for_all(facts, now, timing)
    found = ((run, everybody or _cause_for(facts, gpus, now, timing)) for run, gpus in runs.items())
    return [(run, cause) for run, cause in found if cause is not None]


def _cause_for_all(facts: Facts, now: float, timing: Timing) -> Cause | None:
    people = facts.people
    if people is not None and people.watched and people.active:
        return Cause(kind=CauseKind.PERSON, text=people.reason)
    if facts.paused is not None:
        return Cause(kind=CauseKind.PAUSED, text=facts.paused)
    last = facts.listening_since if facts.beat_at is None else facts.beat_at
    if now - last >= timing.beat:
        text = f"the collector has completed no check for {timing.beat:g} s"
        return Cause(kind=CauseKind.NOT_WATCHED, text=text)
    if people is None and now - facts.listening_since >= timing.doubt:
        text = f"for {timing.doubt:g} s nobody could say who is at this node"
        return Cause(kind=CauseKind.NOT_WATCHED, text=text)
    return None


def _cause_for(facts: Facts, gpus: tuple[str, ...], now: float, timing: Timing) -> Cause | None:
    causes = [_cause_at(facts, gpu, now, timing) for gpu in gpus]
    return next((cause for cause in causes if cause is not None), None)


def _cause_at(facts: Facts, gpu: str, now: float, timing: Timing) -> Cause | None:
    name, state = facts.name(gpu), facts.gpus.get(gpu)
    if state is not None and state.state in (GpuCondition.BUSY, GpuCondition.HELD):
        return Cause(kind=CauseKind.GPU_PROCESS, text=f"{name}: {_words(state, 'is in use')}")
    if state is not None and state.state is GpuCondition.LOST:
        return Cause(kind=CauseKind.GPU_LOST, text=f"{name}: {_words(state, 'is lost')}")
    inventory = facts.inventory
    if inventory is not None and all(one.gpu != gpu for one in inventory.gpus):
        return Cause(kind=CauseKind.GPU_LOST, text=f"{name} is no longer in this node")
    since = facts.doubtful_since.get(gpu, facts.listening_since if state is None else None)
    if since is not None and now - since >= timing.doubt:
        said = _words(state, "no answer") if state else "nothing is known about it"
        text = f"{name}: {said}, for {timing.doubt:g} s"
        return Cause(kind=CauseKind.GPU_UNKNOWN, text=text)
    return None


def _words(state: GpuState, otherwise: str) -> str:
    return "; ".join(state.reasons) or otherwise
