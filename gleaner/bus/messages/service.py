"""Who is there."""

from __future__ import annotations

from typing import Literal

from gleaner.bus.message import Message, QoS, Utc, Writer, on


@on(
    "service/{service}/{instance}/availability",
    writer=Writer.ANY_SERVICE,
    retain=True,
    qos=QoS.AT_LEAST_ONCE,
)
class Availability(Message):
    """Whether one connection is there: `online` on every connect, `offline` by will or farewell.

    `service` is `node` where collector and runner share a connection. A will that carries another
    `connection` than the last `online` belongs to an older connection and means nothing.
    """

    service: str
    instance: str
    state: Literal["online", "offline"]
    connection: str
    """Random, new for each connection."""
    version: str
    at: Utc | None
    """When it came; None in a will, whose moment nobody can know beforehand."""
    host: str | None = None
    """The machine it is on."""
    since: Utc | None = None
    """When this process first asked for a connection: of two with one name the first one stays."""
