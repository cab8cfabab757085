"""Fold one event into what is known; nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, assert_never

from gleaner.bus.interface import Delivery
from gleaner.bus.message import Message
from gleaner.bus.messages import (
    Availability,
    Beat,
    Catalogue,
    GpuCondition,
    GpuState,
    Inventory,
    People,
    Run,
    RunnerState,
    RunState,
    SchedulerState,
)
from gleaner.fleet import NODE_SERVICES, is_of_older_connection
from services.scheduler.state import (
    Connected,
    Disconnected,
    Event,
    Heard,
    HeardRival,
    HeardWish,
    More,
    Node,
    State,
    Tick,
    put,
)

SETTLE_SECONDS = 1.5
"""After a connect: until the facts retained at the broker have arrived."""

HEARD: tuple[type[Message], ...] = (
    Availability,
    Beat,
    Catalogue,
    GpuState,
    Inventory,
    People,
    Run,
    RunnerState,
    SchedulerState,
)
"""The kinds of messages that `Heard` brings here."""

_CALM = frozenset({GpuCondition.IDLE, GpuCondition.OURS})
"""No stranger is there."""

_FIELDS: dict[type[Message], str] = {
    Catalogue: "catalogue",
    Inventory: "inventory",
    People: "people",
    RunnerState: "runner",
}


def observe(state: State, event: Event) -> State:
    """Return what is known after an event, with the nodes it concerns in `touched`."""
    state = replace(state, now=event.at)
    match event:
        case Heard(delivery=delivery):
            return _heard(state, delivery)
        case HeardWish():
            return _heard_wish(state, event)
        case HeardRival(term=term):
            if state.term and term >= state.term:
                return replace(state, rival=f"another scheduler beats with term {term}")
            return replace(state, highest_term=max(state.highest_term, term))
        case Connected(at=at):
            return replace(
                state, settles_at=at + timedelta(seconds=SETTLE_SECONDS), is_settled=False
            )
        case Disconnected():
            # A fact may change or be cleared while we are away, so only what was decided is kept.
            nodes = {name: _without_facts(node) for name, node in state.nodes.items()}
            return replace(state, nodes=MappingProxyType(nodes), settles_at=None, is_settled=False)
        case Tick():
            return _tick(state)
        case More():
            return state
        case _:
            assert_never(event)


def _tick(state: State) -> State:
    if state.settles_at is not None and not state.is_settled and state.now >= state.settles_at:
        state = replace(state, is_settled=True, touched=frozenset(state.nodes))
        if not state.term:
            state = replace(state, term=state.highest_term + 1)
    over = [pause for pause in state.pauses if pause.until and pause.until <= state.now]
    if over:
        left = tuple(pause for pause in state.pauses if pause not in over)
        state = replace(state, pauses=left, touched=frozenset(state.nodes))
    due = (
        name
        for name, node in state.nodes.items()
        if (node.wake_at is not None and node.wake_at <= state.now)
        or (node.was_fresh and not node.is_fresh(state.now))
    )
    return replace(state, touched=state.touched.union(due))


def _heard(state: State, delivery: Delivery) -> State:
    kind, message = delivery.message_type, delivery.message
    if kind is SchedulerState:
        if isinstance(message, SchedulerState):
            return _heard_term(state, message.term, f"another scheduler says term {message.term}")
        return state
    if kind is Availability:
        if delivery.levels["service"] not in NODE_SERVICES:
            return state
        name = delivery.levels["instance"]
    elif kind in HEARD:
        name = delivery.levels["node"]
    else:
        return state
    before = state.nodes.get(name) or Node(node=name)
    after = _with(before, delivery, state.now)
    if after is before:
        return state
    if isinstance(message, RunnerState) and message.term is not None:
        why = f"{name} obeys another scheduler, of term {message.term}"
        state = _heard_term(state, message.term, why)
    if message is None and _is_empty(after):
        return replace(
            state,
            nodes=put(state.nodes, name, None),
            touched=state.touched - {name},
            forgotten=state.forgotten | {name},
        )
    # Beats only carry a node on; a decision is due when they begin, or by the clock when they end.
    is_news = kind is not Beat or before.live_since is None
    return replace(
        state,
        nodes=put(state.nodes, name, after),
        touched=state.touched | {name} if is_news else state.touched,
    )


def _heard_term(state: State, term: int, why: str) -> State:
    rival = f"{why}, ours is {state.term}" if state.term and term > state.term else state.rival
    return replace(state, highest_term=max(state.highest_term, term), rival=rival)


def _heard_wish(state: State, event: HeardWish) -> State:
    body = event.body
    why = f"another scheduler wishes for {body.node} with term {body.term}"
    state = _heard_term(state, body.term, why)
    node = state.nodes.get(body.node) or Node(node=body.node)
    if state.term and body.term >= state.term:
        return state
    if node.generation:
        after = replace(node, contradicted=True)
    else:
        last = node.taken_over
        if last and (last.term, last.generation) >= (body.term, body.generation):
            return state
        after = replace(node, taken_over=body)
    return replace(
        state,
        nodes=put(state.nodes, body.node, after),
        touched=state.touched | {body.node},
    )


def _with(node: Node, delivery: Delivery, now: datetime) -> Node:
    """Return a node with one more fact; the very same node if that is no news."""
    message, levels = delivery.message, delivery.levels
    match message:
        case Beat():
            return node if delivery.retained else _with_beat(node, message, now)
        case Availability():
            return _with_availability(node, message)
        case GpuState():
            return _with_gpu(node, message)
        case Run():
            node = node if delivery.retained else _not_offline(node, "runner")
            return _with_run(node, message)
        case RunnerState():
            node = node if delivery.retained else _not_offline(node, "runner")
            node = replace(node, archived=node.archived.intersection(message.runs))
    kind = delivery.message_type
    if kind in _FIELDS:
        if getattr(node, _FIELDS[kind]) == message:
            return node
        change: dict[str, Any] = {_FIELDS[kind]: message}
        return replace(node, **change)
    if kind is Availability:
        return _not_offline(
            replace(node, connections=put(node.connections, levels["service"], None)),
            levels["service"],
        )
    if kind is GpuState:
        return replace(
            node,
            gpus=put(node.gpus, levels["gpu"], None),
            quiet_since=put(node.quiet_since, levels["gpu"], None),
        )
    if kind is Run:
        return replace(
            node,
            runs=put(node.runs, levels["run"], None),
            archived=node.archived | {levels["run"]},
        )
    return node


def _with_beat(node: Node, beat: Beat, now: datetime) -> Node:
    node = _not_offline(node, "node", "collector")
    return replace(node, beat=beat, beat_received_at=now)


def _with_availability(node: Node, said: Availability) -> Node:
    last = node.connections.get(said.service)
    if said == last or is_of_older_connection(said, last):
        return node
    node = replace(node, connections=put(node.connections, said.service, said))
    if said.state == "offline":
        return replace(node, offline=node.offline | {said.service})
    node = _not_offline(node, said.service)
    if said.service == "runner":
        return node
    # A new connection is a new agent, perhaps: its first beat comes after its first facts.
    return replace(node, beat=None, beat_received_at=None)


def _with_gpu(node: Node, said: GpuState) -> Node:
    before = node.gpus.get(said.gpu)
    if before == said:
        return node
    quiet: datetime | None = None
    if said.state in _CALM:
        quiet = node.quiet_since.get(said.gpu)
        # Between idle and ours nobody else was there. Idle again since later: somebody was.
        was_disturbed = (
            before is not None and before.state is said.state and before.since != said.since
        )
        if quiet is None or was_disturbed:
            quiet = said.since
    return replace(
        node,
        gpus=put(node.gpus, said.gpu, said),
        quiet_since=put(node.quiet_since, said.gpu, quiet),
    )


def _with_run(node: Node, run: Run) -> Node:
    before = node.runs.get(run.run)
    if before == run:
        return node
    node = replace(node, runs=put(node.runs, run.run, run))
    if run.state is RunState.EVICTED and not (before and before.state.is_final):
        # Whoever it left for may be a moment from being seen here: count idle time from now on.
        left_at = run.cleared_at or run.exited_at or run.at
        quiet = {
            gpu: max(since, left_at) if gpu in run.gpus else since
            for gpu, since in node.quiet_since.items()
        }
        node = replace(node, quiet_since=_frozen(quiet))
    return node


def _not_offline(node: Node, *services: str) -> Node:
    if node.offline.isdisjoint(services):
        return node
    return replace(node, offline=node.offline.difference(services))


def _without_facts(node: Node) -> Node:
    return Node(
        node=node.node,
        taken_over=node.taken_over,
        grants=node.grants,
        generation=node.generation,
        blockers=node.blockers,
    )


def _is_empty(node: Node) -> bool:
    """Whether nothing is left that the node said: somebody removed it."""
    return not (
        node.inventory
        or node.catalogue
        or node.runner
        or node.people
        or node.gpus
        or node.runs
        or node.connections
    )


def _frozen(values: dict[str, datetime]) -> Mapping[str, datetime]:
    return MappingProxyType(values)
