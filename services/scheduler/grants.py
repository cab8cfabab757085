"""The grants of one node: taken over, ended, withdrawn, made.

What has begun is withdrawn by people's wishes only (a pause, another catalogue): that a GPU is
busy or somebody came makes the node leave by itself. What has not begun is withdrawn as soon as
anything is against it, or it would begin in a pause between two strangers without any wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from gleaner.bus.messages import Grant
from gleaner.settings import SchedulerSettings
from services.scheduler import crashes
from services.scheduler.events import Decision, Said
from services.scheduler.idleness import idle_seconds, is_paused, node_blockers, pause_blocker
from services.scheduler.placement import Placement
from services.scheduler.state import CALM, LEAVING, Node, State

UNHEARD_SECONDS = 60.0
"""A grant that a live node has not begun by then is withdrawn; another may follow."""
_MARGIN_SECONDS = 2.0
"""By which a node's clock, as its beats tell it, may jump back and forth."""


def taken_over(node: Node, now: datetime) -> Node:
    """Take over what runs and what an earlier scheduler wished for: a healthy run stays."""
    earlier = node.taken_over.runs if node.taken_over else ()
    by_run = {grant.run: grant for grant in earlier}
    running = [
        by_run.get(run.run)
        or Grant(
            run=run.run,
            entry=run.entry,
            digest=run.digest,
            gpus=run.gpus,
            granted_at=run.started_at or now,
            reason="it was running when the scheduler started",
        )
        for run in node.live_runs
        if run.run in by_run or run.state not in LEAVING
    ]
    grants: dict[str, Grant] = {}
    taken: set[str] = set()
    for grant in [*running, *earlier]:
        if node.ended(grant):
            grants[grant.run] = grant  # to be settled, and counted, like any other
        elif taken.isdisjoint(grant.gpus):
            grants[grant.run] = grant
            taken |= set(grant.gpus)
    return replace(node, grants=tuple(grants.values()), taken_over=None)


def without_ended(
    state: State, node: Node, policy: SchedulerSettings
) -> tuple[State, Node, list[Said]]:
    """Remove grants whose runs are over, and count those that ended by themselves."""
    said: list[Said] = []
    for grant in node.grants:
        run = node.ended(grant)
        if run is None:
            continue
        counted = crashes.count(state.crashes, node.node, grant, run, policy, state.now)
        if counted is not state.crashes:
            state = replace(state, crashes=counted)
        node = replace(node, grants=tuple(one for one in node.grants if one.run != grant.run))
        said.append(log(node, grant, f"is over: {run.reason}"))
    return state, node, said


def without_unwanted(
    state: State, node: Node, policy: SchedulerSettings
) -> tuple[Node, list[tuple[Grant, str]]]:
    """Remove grants that may no longer be, with the reasons; what runs is stopped with grace."""
    withdrawn: list[tuple[Grant, str]] = []
    for grant in node.grants:
        why = _why_unwanted(state, node, grant, policy)
        if why is not None:
            node = replace(node, grants=tuple(one for one in node.grants if one.run != grant.run))
            withdrawn.append((grant, why))
    return node, withdrawn


def _why_unwanted(state: State, node: Node, grant: Grant, policy: SchedulerSettings) -> str | None:
    pause = is_paused(state.pauses, node.node, grant.entry)
    if pause is not None:
        return pause_blocker(pause).text
    if node.live_since is None or node.catalogue is None:
        return None
    entry = next((one for one in node.catalogue.entries if one.name == grant.entry), None)
    if entry is None:
        return "it is no longer in the catalogue"
    if entry.digest != grant.digest:
        return "it was changed in the catalogue"
    if grant.run in node.runs:
        return None
    return _why_not_begun(state, node, grant, policy)


def _why_not_begun(state: State, node: Node, grant: Grant, policy: SchedulerSettings) -> str | None:
    """Return why a grant that the node has not begun is no longer good, or None."""
    against = node_blockers(node, state.pauses, state.drains, state.now)
    if against:
        return f"not begun yet, and {against[0].text}"
    for gpu in grant.gpus:
        known = node.gpus.get(gpu)
        needed = policy.gpu_idle_seconds - _MARGIN_SECONDS
        if known is None or known.state not in CALM or idle_seconds(node, gpu, state.now) < needed:
            return "not begun yet, and somebody was there since"
    if node.live_since is not None and _is_overdue(grant, node.live_since, state.now):
        return refusal(node, grant) or f"not begun within {UNHEARD_SECONDS:g} s"
    return None


def refusal(node: Node, grant: Grant) -> str | None:
    """Return what the node said last against a grant, or None."""
    said = node.runner.refusals if node.runner else ()
    return next((one for one in reversed(said) if grant.run in one), None)


def with_new(state: State, node: Node, placement: Placement) -> tuple[State, Node, list[Said]]:
    """Grant what starts now."""
    said: list[Said] = []
    for entry, gpus in placement.starts:
        state = replace(state, counter=state.counter + 1)
        idle = min(idle_seconds(node, gpu, state.now) for gpu in gpus)
        who = node.people.reason if node.people else ""
        grant = Grant(
            # The term is ours alone and the counter only grows, so an id never comes twice.
            run=f"{node.node}-{state.term}-{state.counter}",
            entry=entry.name,
            digest=entry.digest,
            gpus=gpus,
            granted_at=state.now,
            reason=f"idle for {idle:.0f} s; {who}",
        )
        node = replace(node, grants=(*node.grants, grant))
        said.append(log(node, grant, f"is granted: {grant.reason}"))
    return state, node, said


def overdue(node: Node) -> Iterator[datetime]:
    """Return when grants that the node has not begun will be withdrawn."""
    if node.live_since is not None:
        for grant in node.grants:
            if grant.run not in node.runs:
                yield _overdue_at(grant, node.live_since)


def _is_overdue(grant: Grant, live_since: datetime, now: datetime) -> bool:
    """Whether it waited too long, or longer than anybody can tell: our clock was set back."""
    left = (_overdue_at(grant, live_since) - now).total_seconds()
    return not 0 < left <= UNHEARD_SECONDS + _MARGIN_SECONDS


def _overdue_at(grant: Grant, live_since: datetime) -> datetime:
    return max(grant.granted_at, live_since) + timedelta(seconds=UNHEARD_SECONDS)


def log(node: Node, grant: Grant, text: str) -> Decision:
    """Return a line for the log."""
    gpus = node.inventory.gpus if node.inventory else ()
    index = {gpu.gpu: str(gpu.index) for gpu in gpus}
    where = ", ".join(index.get(gpu, gpu) for gpu in grant.gpus)
    return Decision(node=node.node, text=f"{grant.entry} on GPU {where} {text} (run {grant.run})")
