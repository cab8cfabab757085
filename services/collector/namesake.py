"""Notice that another node has our name, before both are taken for one.

Whoever comes second gives way: it hears the other's beats as soon as it has the broker. The first
one stays at work, says it once, and says its facts again when the other has fallen silent.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

from gleaner.bus.interface import Delivery
from gleaner.bus.local import NodeBus
from gleaner.bus.messages import Availability, Beat
from gleaner.bus.mqtt import MqttBus
from gleaner.runtime import Misconfigured

logger = logging.getLogger(__name__)

NEW_SECONDS = 5.0
"""After its first connection a node may still give way; later it has work to lose."""
SILENT_SECONDS = 3.0
RECENT_SECONDS = 2.0
"""An older beat is not said again: who hears it would think that somebody looked just now."""


class Namesake:
    """Compares the beats that come from the broker with our own."""

    def __init__(self, bus: NodeBus, remote: MqttBus) -> None:
        self._bus = bus
        self._remote = remote
        self._began: set[datetime | None] = set()
        """What our own beats say of when we began; more than one if the clock was set."""
        self._connected_at: float | None = None
        self._last: tuple[float, Beat] | None = None
        self._is_known = False
        self._again: asyncio.TimerHandle | None = None
        self._was_first: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        bus.subscribe(Beat, self._on_own, node=bus.node)
        remote.subscribe(Beat, self._on_any, node=bus.node)
        for service in ("node", "collector"):
            remote.subscribe(Availability, self._on_newcomer, service=service, instance=bus.node)
        remote.on_connection(self._on_connection)

    async def watch(self) -> None:
        """Return never; raise Misconfigured when we came second."""
        try:
            raise Misconfigured(await self._was_first)
        finally:
            if self._again is not None:
                self._again.cancel()

    def _on_connection(self, connected: bool) -> None:
        if connected and self._connected_at is None:
            self._connected_at = asyncio.get_running_loop().time()

    def _on_own(self, delivery: Delivery) -> None:
        if isinstance(delivery.message, Beat):
            self._began.add(delivery.message.started_at)
            self._last = asyncio.get_running_loop().time(), delivery.message

    def _on_newcomer(self, delivery: Delivery) -> None:
        """Let whoever comes under our name hear of us before it can start anything."""
        said = delivery.message
        if not isinstance(said, Availability) or said.state == "offline" or delivery.retained:
            return
        if said.connection == self._remote.connection_id:
            return
        at, beat = self._last or (0.0, None)
        if beat is not None and asyncio.get_running_loop().time() - at < RECENT_SECONDS:
            self._remote.publish(beat)
        self._note()

    def _on_any(self, delivery: Delivery) -> None:
        beat = delivery.message
        if not isinstance(beat, Beat) or delivery.retained or beat.started_at in self._began:
            return
        began = [at for at in self._began if at is not None]
        was_first = beat.started_at is not None and (not began or beat.started_at < min(began))
        if was_first and self._is_new() and not self._was_first.done():
            self._was_first.set_result(
                f"node.id {self._bus.node}: another node of this name is at work on this broker"
            )
        else:
            self._note()

    def _note(self) -> None:
        if not self._is_known:
            self._is_known = True
            logger.error(
                "another node calls itself %s too: node.id must be different on each machine",
                self._bus.node,
            )
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(SILENT_SECONDS, self._say_again)

    def _is_new(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self._connected_at is None or now - self._connected_at < NEW_SECONDS

    def _say_again(self) -> None:
        self._is_known = False
        logger.info("the other node called %s is silent", self._bus.node)
        self._bus.say_again()
