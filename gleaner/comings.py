"""Notices that a service is back: what it was asked before, it may never have got."""

from __future__ import annotations

from gleaner.bus.interface import Delivery
from gleaner.bus.messages import Availability


class Comings:
    """Remembers under which connection each instance of a service was heard last."""

    def __init__(self) -> None:
        self._connections: dict[str, str] = {}

    def came(self, delivery: Delivery) -> bool:
        """Take in an availability; return whether its service has just come, or come back."""
        said = delivery.message
        if not isinstance(said, Availability) or said.state == "offline":
            return False
        before = self._connections.get(said.instance)
        self._connections[said.instance] = said.connection
        # What is retained was there before we asked, unless another connection was heard of then.
        return said.connection != before if before else not delivery.retained
