"""What shall run where: settle what is over, withdraw what may not be, grant what may, say it.

A granted run stays wished for until it is over. That a GPU is busy or somebody came withdraws
nothing: leaving is the node's own reflex, and the run's fact tells how it went.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

from gleaner.bus.messages import (
    DesiredBody,
    GpuCondition,
    Grant,
    SchedulerState,
)
from gleaner.settings import SchedulerSettings
from services.scheduler import crashes, explain
from services.scheduler.idleness import idle_seconds, is_paused, pause_blocker
from services.scheduler.placement import Placement, Scene, place
from services.scheduler.state import LEAVING, Decision, Forgotten, Node, Said, State, Superseded

AT_ONCE = 50
"""Nodes decided for in one step, so that no beat waits long; the rest stay touched."""
COUNT_INTERVAL = timedelta(seconds=0.9)
UNHEARD_SECONDS = 60.0
"""A grant that a live node has not begun by then is withdrawn; another may follow."""


def decide(state: State, policy: SchedulerSettings) -> tuple[State, list[Said]]:
    """Decide for every touched node; return what is decided now and what must be said."""
    if state.rival is not None:
        return state, [Superseded(text=state.rival)]
    if not state.is_settled:
        return state, []
    said: list[Said] = [Forgotten(node=name) for name in sorted(state.forgotten)]
    if state.touched or said:
        nodes = dict(state.nodes)
        names = sorted(state.touched & nodes.keys())
        for name in names[:AT_ONCE]:
            state, nodes[name], news = _decide_node(state, nodes[name], policy)
            said += news
        state = replace(
            state,
            nodes=MappingProxyType(nodes),
            touched=frozenset(names[AT_ONCE:]),
            forgotten=frozenset(),
        )
    state, fleet = _with_fleet(state)
    return state, [*said, *fleet]


def _decide_node(
    state: State, node: Node, policy: SchedulerSettings
) -> tuple[State, Node, list[Said]]:
    said: list[Said] = []
    node = _with_liveness(node, state.now)
    wished_for = node.grants
    if node.live_since is not None and not node.generation:
        node = _taken_over(node, state.now)
        said += [_log(node, f"{one.entry} goes on: {one.reason}", one) for one in node.grants]
    state, node, over = _without_ended(state, node, policy)
    node, withdrawn = _without_unwanted(state, node)
    said += [*over, *withdrawn]
    scene = _scene(state, node, policy)
    placement = place(scene)
    if placement.starts:
        state, node, granted = _with_new(state, node, placement)
        said += granted
        scene = _scene(state, node, policy)
        placement = place(scene)
    may_be_told = node.generation or node.live_since is not None
    if may_be_told and (node.grants != wished_for or not node.generation or node.contradicted):
        state, node, wish = _wish(state, node)
        said.append(wish)
    node, words = _explained(node, scene, placement)
    return state, node, [*said, *words]


def _with_liveness(node: Node, now: datetime) -> Node:
    since = (node.live_since or now) if node.is_live(now) else None
    return replace(node, live_since=since, was_fresh=node.is_fresh(now))


def _taken_over(node: Node, now: datetime) -> Node:
    """Take over what an earlier scheduler wished for and what runs: a healthy run stays."""
    earlier = node.taken_over.runs if node.taken_over else ()
    by_run = {grant.run: grant for grant in earlier}
    grants = [
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
    taken = {gpu for grant in grants for gpu in grant.gpus}
    for grant in earlier:
        is_known = any(one.run == grant.run for one in grants)
        if not is_known and (node.ended(grant) or taken.isdisjoint(grant.gpus)):
            grants.append(grant)
            taken |= set() if node.ended(grant) else set(grant.gpus)
    return replace(node, grants=tuple(grants), taken_over=None)


def _without_ended(
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
        said.append(_log(node, f"{grant.entry} is over: {run.reason}", grant))
    return state, node, said


def _without_unwanted(state: State, node: Node) -> tuple[Node, list[Said]]:
    """Remove grants that may no longer be; what runs of them is stopped with grace."""
    said: list[Said] = []
    for grant in node.grants:
        why = _why_unwanted(state, node, grant)
        if why is not None:
            node = replace(node, grants=tuple(one for one in node.grants if one.run != grant.run))
            said.append(_log(node, f"{grant.entry} is withdrawn: {why}", grant))
    return node, said


def _why_unwanted(state: State, node: Node, grant: Grant) -> str | None:
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
    if grant.run not in node.runs and state.now >= _overdue_at(grant, node.live_since):
        refusals = node.runner.refusals if node.runner else ()
        said = [refusal for refusal in refusals if grant.run in refusal]
        return said[-1] if said else f"not begun within {UNHEARD_SECONDS:g} s"
    return None


def _overdue_at(grant: Grant, live_since: datetime) -> datetime:
    return max(grant.granted_at, live_since) + timedelta(seconds=UNHEARD_SECONDS)


def _with_new(state: State, node: Node, placement: Placement) -> tuple[State, Node, list[Said]]:
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
        said.append(_log(node, f"{grant.entry} is granted: {grant.reason}", grant))
    return state, node, said


def _wish(state: State, node: Node) -> tuple[State, Node, DesiredBody]:
    state = replace(state, generation=state.generation + 1)
    node = replace(node, generation=state.generation, contradicted=False)
    body = DesiredBody(
        node=node.node,
        term=state.term,
        generation=state.generation,
        runs=node.grants,
        at=state.now,
    )
    return state, node, body


def _explained(node: Node, scene: Scene, placement: Placement) -> tuple[Node, list[Said]]:
    """Say every no, if it is news, and note when time alone will change something."""
    blockers = explain.explain(scene, placement.kept)
    is_news = not explain.says_the_same(blockers, node.blockers)
    said = blockers if is_news or node.blockers is None else node.blockers
    moments = [*explain.ends(blockers), *explain.next_texts(blockers, said), *_overdue(node)]
    node = replace(
        node,
        blockers=said,
        idle_by_model=_idle_by_model(node, scene.now),
        wake_at=min(moments, default=None),
    )
    return node, [blockers] if is_news else []


def _overdue(node: Node) -> Iterator[datetime]:
    """Return when grants that the node has not begun will be withdrawn."""
    if node.live_since is not None:
        for grant in node.grants:
            if grant.run not in node.runs:
                yield _overdue_at(grant, node.live_since)


def _scene(state: State, node: Node, policy: SchedulerSettings) -> Scene:
    return Scene(
        node=node,
        pauses=state.pauses,
        drains=state.drains,
        crashes=state.crashes,
        policy=policy,
        now=state.now,
    )


def _idle_by_model(node: Node, now: datetime) -> Mapping[str, int]:
    if not node.is_fresh(now) or node.missing_connection is not None:
        return MappingProxyType({})
    counted = Counter(
        gpu.name or "unknown"
        for gpu in node.schedulable
        if (state := node.gpus.get(gpu.gpu)) is not None
        and state.state in (GpuCondition.IDLE, GpuCondition.OURS)
    )
    return MappingProxyType(dict(counted))


def _with_fleet(state: State) -> tuple[State, list[Said]]:
    """Say what the whole fleet is held to, if it is news."""
    last = state.said
    is_held_to_the_same = last is not None and (last.term, last.pauses, last.drains) == (
        state.term,
        state.pauses,
        state.drains,
    )
    was_counted = state.counted_at is not None and state.now < state.counted_at + COUNT_INTERVAL
    if is_held_to_the_same and was_counted:
        return state, []
    fleet = _fleet(state)
    state = replace(state, counted_at=state.now)
    if is_held_to_the_same and last and last.idle_gpus_by_model == fleet.idle_gpus_by_model:
        return state, []
    return replace(state, said=fleet), [fleet]


def _fleet(state: State) -> SchedulerState:
    idle: Counter[str] = Counter()
    for node in state.nodes.values():
        idle.update(node.idle_by_model)
    return SchedulerState(
        term=state.term,
        pauses=state.pauses,
        drains=state.drains,
        idle_gpus_by_model=dict(sorted(idle.items())),
        at=state.now,
    )


def _log(node: Node, text: str, grant: Grant) -> Decision:
    gpus = node.inventory.gpus if node.inventory else ()
    index = {gpu.gpu: str(gpu.index) for gpu in gpus}
    where = ", ".join(index.get(gpu, gpu) for gpu in grant.gpus)
    return Decision(node=node.node, text=f"GPU {where}, run {grant.run}: {text}")
