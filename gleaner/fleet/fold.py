"""What one message changes in what is known of a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar

from gleaner.bus.interface import Delivery
from gleaner.bus.message import Message
from gleaner.bus.messages import (
    Availability,
    Beat,
    Blockers,
    Catalogue,
    GpuState,
    Inventory,
    People,
    Run,
    RunnerState,
    Telemetry,
)
from gleaner.fleet.node import NodeView

V = TypeVar("V")


def with_beat(view: NodeView, beat: Beat, now: datetime) -> NodeView:
    """Take in a live beat: the only proof that somebody looks at the node."""
    # A will of an older connection may come late and stay retained: a beat disproves it.
    return replace(view, beat=beat, beat_received_at=now, offline_at=None)


def with_connection(
    view: NodeView, service: str, said: Availability | None, now: datetime
) -> NodeView:
    """Take in the last word of one of the node's connections; None: it was cleared."""
    view = replace(view, connections=_put(view.connections, service, said))
    if service == "runner":  # which looks at nothing
        return view
    is_offline = said is not None and said.state == "offline"
    return replace(view, offline_at=now if is_offline else None)


def with_fact(view: NodeView, delivery: Delivery) -> NodeView:
    """Take in a fact, or that it was cleared."""
    message, levels = delivery.message, delivery.levels
    kind = delivery.message_type
    if kind is GpuState:
        state = message if isinstance(message, GpuState) else None
        return replace(view, states=_put(view.states, levels["gpu"], state))
    if kind is Run:
        run = message if isinstance(message, Run) else None
        return replace(view, runs=_put(view.runs, levels["run"], run))
    change: dict[str, Any] = {_FIELDS[kind]: message}
    return replace(view, **change)


_FIELDS: dict[type[Message], str] = {
    Blockers: "blockers",
    Catalogue: "catalogue",
    Inventory: "inventory",
    People: "people",
    RunnerState: "runner",
    Telemetry: "telemetry",
}


def _put(values: Mapping[str, V], key: str, value: V | None) -> Mapping[str, V]:
    after = {name: one for name, one in values.items() if name != key}
    if value is not None:
        after[key] = value
    return MappingProxyType(after)
