"""Who is there right now, by what was heard of them and when."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from gleaner.bus.messages import Availability

STALE_SECONDS = 10.0
"""A node whose last beat is older is stale."""
SCHEDULER_STALE_SECONDS = 15.0
"""Three of the scheduler's beats."""
NODE_SERVICES = frozenset({"node", "collector", "runner"})
"""What a node is at the broker: one connection, or two where its services are apart."""


class Presence(StrEnum):
    """Whether somebody looks at a node right now."""

    ONLINE = "online"
    STALE = "stale"
    """No beat for 10 s: the last facts are old."""
    OFFLINE = "offline"
    """Its connection ended and nothing came since."""
    UNHEARD = "unheard"
    """Retained facts only, since we began to listen."""


def is_within(heard: datetime, now: datetime, seconds: float) -> bool:
    """Whether something was heard lately; our own clock set back since counts as not."""
    return 0 <= (now - heard).total_seconds() <= seconds


def scheduler_beats(heard: datetime | None, now: datetime) -> bool:
    """Whether the scheduler's last beat is recent enough to count on it."""
    return heard is not None and is_within(heard, now, SCHEDULER_STALE_SECONDS)


def is_of_older_connection(said: Availability, last: Availability | None) -> bool:
    """Whether this is the late will of a connection that a newer one has replaced."""
    return (
        said.state == "offline"
        and last is not None
        and last.state == "online"
        and said.connection != last.connection
    )
