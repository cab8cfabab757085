"""When an event of each kind of each node was last committed, since the start; pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from gleaner.bus.messages import Event, EventKind

KNOWN = frozenset(kind.value for kind in EventKind)
OTHER = "other"
"""Kinds that we do not know: a node could write any number of them."""


class Latest:
    """What `Recorded.latest` says."""

    def __init__(self) -> None:
        self._latest: dict[str, dict[str, datetime]] = {}

    def committed(self, events: Iterable[Event], at: datetime) -> None:
        """Take note of events that are in the database now."""
        for event in events:
            kind = event.kind if event.kind in KNOWN else OTHER
            self._latest.setdefault(event.node, {})[kind] = at

    def of(self, node: str) -> dict[str, datetime]:
        """Return the last instant of each kind."""
        return dict(self._latest.get(node, {}))
