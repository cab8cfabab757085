"""The example fleet of the page, as the command line sees it."""

from __future__ import annotations

from collections.abc import Iterable

from gleaner.bus.interface import Delivery
from gleaner.bus.message import Message
from gleaner.bus.messages import Beat, SchedulerBeat
from gleaner.fleet import Fleet, FleetView
from tests.builders import NOW
from tests.web.example import Example


def fleet_of(messages: Iterable[Message]) -> FleetView:
    """Return what is known after these messages."""
    fleet = Fleet()
    for message in messages:
        is_beat = isinstance(message, Beat | SchedulerBeat)
        delivery = Delivery(
            message_type=type(message),
            levels=message.levels(),
            message=message,
            retained=not is_beat,
        )
        fleet.take(delivery, NOW)
    return fleet.snapshot(NOW)


def example_fleet() -> FleetView:
    """Return the example fleet, alive."""
    example = Example(NOW)
    return fleet_of([*example.messages(), *example.beats()])
