"""What shall run where: settle what is over, withdraw what may not be, grant what may, say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

from gleaner.bus.messages import DesiredBody, SchedulerState
from gleaner.settings import SchedulerSettings
from services.scheduler import explain, grants
from services.scheduler.events import Forgotten, Said, Superseded
from services.scheduler.placement import Placement, Scene, place
from services.scheduler.state import CALM, Node, State

AT_ONCE = 50
"""Nodes decided for in one step, so that no beat waits long; the rest stay touched."""
COUNT_INTERVAL = timedelta(seconds=0.9)
"""Idle GPUs of a thousand nodes are counted about once a second, not with every message."""


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
        node = grants.taken_over(node, state.now)
        said += [grants.log(node, one, f"goes on: {one.reason}") for one in node.grants]
    state, node, over = grants.without_ended(state, node, policy)
    node, withdrawn = grants.without_unwanted(state, node, policy)
    said += over
    said += [grants.log(node, grant, f"is withdrawn: {why}") for grant, why in withdrawn]
    scene = _scene(state, node, policy)
    placement = place(scene)
    if placement.starts:
        state, node, granted = grants.with_new(state, node, placement)
        said += granted
        scene = _scene(state, node, policy)
        placement = place(scene)
    may_be_told = node.generation or node.live_since is not None
    if may_be_told and (node.grants != wished_for or not node.generation or node.contradicted):
        state, node, wish = _wish(state, node, {grant.run: why for grant, why in withdrawn})
        said.append(wish)
    node, words = _explained(node, scene, placement)
    return state, node, [*said, *words]


def _with_liveness(node: Node, now: datetime) -> Node:
    since = (node.live_since or now) if node.is_live(now) else None
    return replace(node, live_since=since, was_fresh=node.is_fresh(now))


def _wish(state: State, node: Node, withdrawn: dict[str, str]) -> tuple[State, Node, DesiredBody]:
    state = replace(state, generation=state.generation + 1)
    node = replace(node, generation=state.generation, contradicted=False)
    body = DesiredBody(
        node=node.node,
        term=state.term,
        generation=state.generation,
        runs=node.grants,
        withdrawn=withdrawn,
        at=state.now,
    )
    return state, node, body


def _explained(node: Node, scene: Scene, placement: Placement) -> tuple[Node, list[Said]]:
    """Say every no, if it is news, and note when time alone will change something."""
    blockers = explain.explain(scene, placement.kept)
    # Of a node that only left a farewell or an old wish at the broker there is nothing to say.
    is_known = node.inventory is not None or node.catalogue is not None
    is_news = is_known and not explain.says_the_same(blockers, node.blockers)
    said = blockers if is_news or node.blockers is None else node.blockers
    moments = [
        *explain.moments(blockers),
        *explain.next_texts(blockers, said),
        *grants.overdue(node),
    ]
    node = replace(
        node,
        blockers=said,
        idle_by_model=_idle_by_model(node, scene.now),
        wake_at=min(moments, default=None),
    )
    return node, [blockers] if is_news else []


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
        if (state := node.gpus.get(gpu.gpu)) is not None and state.state in CALM
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
    # Either way: a clock that was set back must not end the counting.
    was_counted = (
        state.counted_at is not None and abs(state.now - state.counted_at) < COUNT_INTERVAL
    )
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
