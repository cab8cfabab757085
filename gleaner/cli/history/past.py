"""What commands about the past say beside it: what of it never really happened."""

from __future__ import annotations

from datetime import UTC, datetime

from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.messages import Inventory
from gleaner.fleet import Fleet, FleetView
from gleaner.tell import tell_simulated


def hear_inventories(bus: Bus, fleet: Fleet) -> None:
    """Let a fleet know which nodes there are and what they have, but not how they are.

    Retained facts come before the answer to what is asked then.
    """

    def hear(delivery: Delivery) -> None:
        fleet.take(delivery, datetime.now(UTC))

    bus.subscribe(Inventory, hear)


def is_simulated(fleet: Fleet, node: str) -> bool | None:
    """Tell whether a node is simulated; None: it says nothing, or was removed."""
    known = fleet.node(node)
    return known.is_simulated if known is not None and known.inventory is not None else None


def simulated(view: FleetView, only: str | None) -> str | None:
    """Say what of the past of all nodes, or of one, never really happened."""
    asked = [one for one in view.nodes.values() if only in (None, one.node)]
    return tell_simulated([(one.node, one.is_simulated) for one in asked], only=only is not None)
