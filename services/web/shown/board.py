"""What is shown of every node, kept as values and as the JSON that all streams send.

A node's JSON is made once, when a fact of it changes; a snapshot for somebody new joins what is
there. Facts and readings stand apart, because readings change a hundred times as often.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gleaner.bus.messages import SchedulerState
from gleaner.fleet import NodeView
from gleaner.names import Called
from services.web.shown.overview import Tally, tally
from services.web.shown.show import show_node, show_readings, with_readings
from services.web.shown.users import Users
from services.web.shown.view import Delta, News, Node, Overview, Readings, Snapshot, User


class Change(Enum):
    """What of a node is to be told."""

    FACTS = "facts"
    READINGS = "readings"
    GONE = "gone"


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Everything at one moment, as values that no later change touches; cheap to take."""

    at: datetime
    overview: Overview
    facts: tuple[Node, ...]
    readings: Mapping[str, Readings]
    users: tuple[User, ...]

    def snapshot(self) -> Snapshot:
        """Return it with the readings in their places."""
        return Snapshot(
            at=self.at,
            overview=self.overview,
            nodes=tuple(with_readings(node, self.readings[node.node]) for node in self.facts),
            users=self.users,
        )


class Board:
    """Works out anew what changed, node by node."""

    def __init__(self, called: Called) -> None:
        self._called = called
        self._facts: dict[str, Node] = {}
        self._readings: dict[str, Readings] = {}
        self._json: dict[tuple[Change, str], str] = {}
        self.tallies: dict[str, Tally] = {}
        self.users = Users()

    def __contains__(self, node: str) -> bool:
        return node in self._facts

    def show(
        self, view: NodeView, now: datetime, scheduler: SchedulerState | None
    ) -> Change | None:
        """Work out a node of which a fact may have changed; return what did."""
        facts, readings = show_node(view, now, scheduler, self._called)
        has_changed = facts != self._facts.get(view.node)
        if has_changed:
            self._facts[view.node] = facts
            self._json[Change.FACTS, view.node] = facts.model_dump_json()
            self.users.take(facts)
        has_moved = self._read(view.node, readings)
        if has_changed or has_moved:
            has_readings = readings.readings_at is not None
            self.tallies[view.node] = tally(self._facts[view.node], view, has_readings=has_readings)
        if has_changed:
            return Change.FACTS
        return Change.READINGS if has_moved else None

    def read(self, view: NodeView, now: datetime) -> Change | None:
        """Work out the readings of a node whose facts are shown already."""
        has_moved = self._read(view.node, show_readings(view, now))
        return Change.READINGS if has_moved else None

    def forget(self, node: str) -> Change | None:
        """Take out a node that is gone; None if it was not there."""
        if self._facts.pop(node, None) is None:
            return None
        del self._readings[node], self.tallies[node]
        del self._json[Change.FACTS, node], self._json[Change.READINGS, node]
        self.users.forget(node)
        return Change.GONE

    def moment(self, at: datetime, overview: Overview) -> Moment:
        """Return everything as it is now."""
        return Moment(
            at=at,
            overview=overview,
            facts=tuple(self._facts[node] for node in sorted(self._facts)),
            readings=dict(self._readings),
            users=self.users.everybody(),
        )

    def snapshot_json(self, at: datetime, overview: Overview, news: tuple[News, ...]) -> str:
        """Return everything as the stream says it."""
        nodes = sorted(self._facts)
        rest = Snapshot(at=at, overview=overview, nodes=(), users=self.users.everybody(), news=news)
        return self._with_nodes(rest, nodes, nodes)

    def delta_json(self, delta: Delta, changes: Mapping[str, Change]) -> str:
        """Return what changed as the stream says it; `delta` has all but nodes and readings."""
        facts = [node for node, change in changes.items() if change is Change.FACTS]
        # Facts say nothing about readings, so both go out together.
        readings = [node for node, change in changes.items() if change is not Change.GONE]
        return self._with_nodes(delta, facts, readings)

    def _with_nodes(
        self, rest: Snapshot | Delta, facts: Iterable[str], readings: Iterable[str]
    ) -> str:
        body = rest.model_dump_json(exclude={"nodes", "readings"})
        nodes = ",".join(self._json[Change.FACTS, node] for node in facts)
        rows = ",".join(self._json[Change.READINGS, node] for node in readings)
        return f'{body[:-1]},"nodes":[{nodes}],"readings":[{rows}]}}'

    def _read(self, node: str, readings: Readings) -> bool:
        if readings == self._readings.get(node):
            return False
        self._readings[node] = readings
        self._json[Change.READINGS, node] = readings.model_dump_json()
        return True
