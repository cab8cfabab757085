"""Notice that another node has our name, before both are taken for one.

Whoever comes second gives way: as soon as it has the broker, it hears what only somebody at work
says, the beats of a collector or the state of a runner. The first one stays at work, says it once,
and says its facts again when the other has fallen silent.

Two that share an account, where that is the client id, never hear each other: the broker throws
one off for the other. Each finds the other's last word when it comes back, and whoever began later
gives way; so does whoever has the account of another node, and is not let speak for its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from datetime import datetime
from typing import Literal

from gleaner.bus.interface import Delivery
from gleaner.bus.local import NodeBus
from gleaner.bus.messages import Availability, Beat, RunnerState
from gleaner.bus.mqtt import MqttBus
from gleaner.runtime import Misconfigured

logger = logging.getLogger(__name__)

Service = Literal["node", "collector", "runner"]

NEW_SECONDS = 5.0
"""After its first connection a node may still give way; later it has work to lose."""
SILENT_SECONDS = 3.0
TURNS = 2
"""A broker that crashed may have an old word of our own; nobody else's comes twice."""
UNHEARD_TURNS = 4
"""A network may be lost as often, but not by somebody who was never heard in between."""
RECENT_SECONDS = 2.0
"""An older beat is not said again: who hears it would think that somebody looked just now."""

SIGNS: dict[Service, tuple[type[Beat] | type[RunnerState], ...]] = {
    "node": (Beat, RunnerState),
    "collector": (Beat,),
    "runner": (RunnerState,),
}
"""What each says while it is at work, and nobody else under its name."""
RIVALS: dict[Service, tuple[Service, ...]] = {
    "node": ("node", "collector", "runner"),
    "collector": ("node", "collector"),
    "runner": ("node", "runner"),
}
"""Who cannot be beside whom; a collector and a runner can."""


class Namesake:
    """Compares the signs of life that come from the broker with our own."""

    def __init__(self, bus: NodeBus, remote: MqttBus, service: Service) -> None:
        self._bus = bus
        self._remote = remote
        self._began: set[datetime | None] = set()
        """What our own signs say of when we began; another if the clock was set."""
        self._connected_at: float | None = None
        """When we first had the broker."""
        self._online_at = 0.0
        self._was_thrown_off = False
        """Whether our connection before this one was as short as those that another one ends."""
        self._turns = 0
        self._unheard_turns = 0
        self._is_heard = False
        """Whether the broker ever gave us back what we said."""
        self._connections: deque[str] = deque(maxlen=16)
        """Ours and others', of which we know."""
        self._last_beat: tuple[float, Beat] | None = None
        self._last_state: RunnerState | None = None
        self._is_known = False
        self._again: asyncio.TimerHandle | None = None
        self._why_we_stop: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        for sign in SIGNS[service]:
            bus.subscribe(sign, self._on_own, node=bus.node)
            remote.subscribe(sign, self._on_any, node=bus.node)
        for rival in RIVALS[service]:
            remote.subscribe(Availability, self._on_availability, service=rival, instance=bus.node)
        remote.on_connection(self._on_connection)

    async def watch(self) -> None:
        """Return never; raise Misconfigured when it is for us to give way."""
        try:
            raise Misconfigured(await self._why_we_stop)
        finally:
            if self._again is not None:
                self._again.cancel()

    def _on_connection(self, connected: bool) -> None:
        now = asyncio.get_running_loop().time()
        if connected:
            self._online_at = now
            self._connections.append(self._remote.connection_id)
            if self._connected_at is None:
                self._connected_at = now
            return
        self._was_thrown_off = now - self._online_at < NEW_SECONDS
        if self._was_thrown_off and not self._is_heard:
            self._unheard_turns += 1
            if self._unheard_turns >= UNHEARD_TURNS:
                self._give_way(
                    f"the account at the broker (bus.user) is not that of node.id {self._bus.node}:"
                    " another client that uses it is thrown off, and throws us off, again and "
                    "again; give this machine an account of its own"
                )

    def _on_own(self, delivery: Delivery) -> None:
        said = delivery.message
        if isinstance(said, Beat):
            self._last_beat = asyncio.get_running_loop().time(), said
        elif isinstance(said, RunnerState):
            self._last_state = said
        else:
            return
        self._began.add(said.started_at)

    def _on_availability(self, delivery: Delivery) -> None:
        said = delivery.message
        if not isinstance(said, Availability):
            return
        if said.connection == self._remote.connection_id:
            self._is_heard = True
        elif delivery.retained:
            self._on_last_word(said)
        elif said.state == "online":
            self._on_newcomer()

    def _on_newcomer(self) -> None:
        """Let whoever comes under our name hear of us before it can start anything."""
        at, beat = self._last_beat or (0.0, None)
        if beat is not None and asyncio.get_running_loop().time() - at < RECENT_SECONDS:
            self._remote.publish(beat)
        if self._last_state is not None:
            self._remote.publish(self._last_state)
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
        elif self._turns >= TURNS:
            self._give_way(
                f"node.id {self._bus.node} is in use by host {said.host}, with the same account at "
                "the broker, which throws off one for the other: give this machine a node.id and "
                "an account of its own"
            )

    def _on_any(self, delivery: Delivery) -> None:
        said = delivery.message
        if not isinstance(said, Beat | RunnerState) or delivery.retained:
            return
        if said.started_at in self._began:
            return
        began = [at for at in self._began if at is not None]
        was_first = said.started_at is not None and (not began or said.started_at < min(began))
        if was_first and self._is_new():
            self._give_way(
                f"node.id {self._bus.node}: another node of this name is at work on this broker"
            )
        else:
            self._note()

    def _give_way(self, why: str) -> None:
        if not self._why_we_stop.done():
            self._why_we_stop.set_result(why)

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
