"""Fold one event into what is known; nothing is decided here."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import assert_never

from gleaner.bus.interface import Delivery
from gleaner.bus.message import Message
from gleaner.bus.messages import (
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
from gleaner.fleet import NODE_SERVICES
from services.scheduler.events import (
    Connected,
    Disconnected,
    Event,
    Heard,
    HeardRival,
    HeardWish,
    More,
    Tick,
)
from services.scheduler.facts import is_empty, with_fact, without_facts
from services.scheduler.state import Node, State, put

SETTLE_SECONDS = 1.5
"""After a connect: until the facts retained at the broker have arrived."""
HIGHEST_TERM = 10**15
"""A node that claims to have heard of a higher one is wrong: so often nobody restarts."""

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


def observe(state: State, event: Event) -> State:
    """Return what is known after an event, with the nodes it concerns in `touched`."""
    if event.at < state.now:
        # Our clock was set back: whoever was to be woken by it would wait for that much longer.
        state = replace(state, touched=frozenset(state.nodes))
    state = replace(state, now=event.at)
    match event:
        case Heard(delivery=delivery):
            return _heard(state, delivery)
        case HeardWish():
            return _heard_wish(state, event)
        case HeardRival(term=term, key=key):
            if not state.term:
                whose = f"its key is {key}" if key else "with our own key"
                return replace(state, rival=f"another scheduler was here first ({whose})")
            if key:
                return state
            if term >= state.term:
                return replace(
                    state,
                    rival=f"another scheduler beats with term {term}",
                    highest_term=max(state.highest_term, term),
                )
            return replace(state, highest_term=max(state.highest_term, term))
        case Connected(at=at):
            return replace(
                state, settles_at=at + timedelta(seconds=SETTLE_SECONDS), is_settled=False
            )
        case Disconnected():
            # A fact may change or be cleared while we are away, so only what was decided is kept.
            nodes = {name: without_facts(node) for name, node in state.nodes.items()}
            return replace(state, nodes=MappingProxyType(nodes), settles_at=None, is_settled=False)
        case Tick():
            return _tick(state)
        case More():
            return state
        case _:
            assert_never(event)


def _tick(state: State) -> State:
    if not state.is_settled and _has_settled(state):
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


def _has_settled(state: State) -> bool:
    """Whether the retained facts had their time; more of it than ever is a clock set back."""
    if state.settles_at is None:
        return False
    return not 0 < (state.settles_at - state.now).total_seconds() <= SETTLE_SECONDS


def _heard(state: State, delivery: Delivery) -> State:
    kind, message = delivery.message_type, delivery.message
    if kind is SchedulerState:
        if isinstance(message, SchedulerState) and message.term <= HIGHEST_TERM:
            # Nobody signs it: it may be of a scheduler that no node here obeys.
            return replace(state, highest_term=max(state.highest_term, message.term))
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
    after = with_fact(before, delivery, state.now)
    if after is before:
        return state
    if message is None and is_empty(after):
        return replace(
            state,
            nodes=put(state.nodes, name, None),
            touched=state.touched - {name},
            forgotten=state.forgotten | {name},
        )
    # Beats only carry a node on; a decision is due when they begin, or by the clock when they end.
    is_news = kind is not Beat or before.live_since is None
    state = replace(
        state,
        nodes=put(state.nodes, name, after),
        touched=state.touched | {name} if is_news else state.touched,
    )
    if isinstance(message, RunnerState) and message.term is not None:
        return _heard_node_term(state, message.term)
    return state


def _heard_node_term(state: State, term: int) -> State:
    """Go beyond the term a node says it obeys; a node's word alone never stops us.

    Its scheduler may be long gone, with its memory. One that lives says so itself.
    """
    if term > HIGHEST_TERM:
        return state
    state = replace(state, highest_term=max(state.highest_term, term))
    if not state.term or term <= state.term:
        return state
    nodes = {
        one: replace(node, contradicted=bool(node.generation)) for one, node in state.nodes.items()
    }
    return replace(
        state, term=term + 1, nodes=MappingProxyType(nodes), touched=frozenset(state.nodes)
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
