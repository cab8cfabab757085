"""Say once, in the log of the server, which nodes have a clock that is far off."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.messages import Beat
from gleaner.tell import tell_clock

logger = logging.getLogger(__name__)

FAR_SECONDS = 60.0
"""Less is on the node's card only: history is in steps of minutes."""


def tell_wrong_clocks(bus: Bus, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
    """Compare the beats of all nodes with our own clock, from now on."""
    far: set[str] = set()

    def hear(delivery: Delivery) -> None:
        beat = delivery.message
        if not isinstance(beat, Beat) or delivery.retained:
            return
        ahead = beat.at - clock()
        is_far = abs(ahead.total_seconds()) > FAR_SECONDS
        if is_far and beat.node not in far:
            far.add(beat.node)
            logger.warning(
                "%s: %s, and what is recorded of it bears its times; is a time service running?",
                beat.node,
                tell_clock(ahead),
            )
        elif not is_far and beat.node in far:
            far.discard(beat.node)
            logger.info("%s: its clock is right again", beat.node)

    bus.subscribe(Beat, hear)
