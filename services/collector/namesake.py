"""Notice that another node has our name, before both are taken for one.

Whoever comes second gives way: it hears the other's beats as soon as it has the broker. The first
one stays at work, says it once, and says its facts again when the other has fallen silent.

Two that share an account never hear each other: the broker throws one off for the other. Each finds
the other's last word when it comes back, and whoever began later gives way.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
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
TURNS = 2
"""A broker that crashed may have an old word of our own; nobody else's comes twice."""
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
        """When we first had the broker."""
        self._online_at = 0.0
        self._was_thrown_off = False
        """Whether our connection before this one was as short as those that another one ends."""
        self._turns = 0
        self._connections: deque[str] = deque(maxlen=16)
        """Ours and others', of which we know."""
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
        now = asyncio.get_running_loop().time()
        if not connected:
            self._was_thrown_off = now - self._online_at < NEW_SECONDS
            return
        self._online_at = now
        self._connections.append(self._remote.connection_id)
        if self._connected_at is None:
            self._connected_at = now

    def _on_own(self, delivery: Delivery) -> None:
        if isinstance(delivery.message, Beat):
            self._began.add(delivery.message.started_at)
            self._last = asyncio.get_running_loop().time(), delivery.message

    def _on_newcomer(self, delivery: Delivery) -> None:
        """Let whoever comes under our name hear of us before it can start anything."""
        said = delivery.message
        if not isinstance(said, Availability) or said.connection == self._remote.connection_id:
            return
        if delivery.retained:
            self._on_last_word(said)
            return
        if said.state == "offline":
            return
        at, beat = self._last or (0.0, None)
        if beat is not None and asyncio.get_running_loop().time() - at < RECENT_SECONDS:
            self._remote.publish(beat)
        self._note()

    def _on_last_word(self, said: Availability) -> None:
        """Take in who had our name while we were away."""
        if said.connection in self._connections:
            return
        self._connections.append(said.connection)
        if not self._was_thrown_off:
            return
        self._turns += 1
        was_first = said.since is not None and said.since < self._remote.since
        if not was_first:
            self._note()
        elif self._turns >= TURNS and not self._was_first.done():
            self._was_first.set_result(
                f"node.id {self._bus.node} is in use by host {said.host}, with the same account at "
                "the broker, which throws off one for the other: give this machine a node.id and "
                "an account of its own"
            )

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
