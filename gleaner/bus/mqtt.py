"""The bus over MQTT: what holds from one connection to the next; see `link` for a single one.

Here everything essential is said anew after each connect: subscriptions first, then our
availability, then our retained facts.

MQTT 5 by default; a broker that refuses it is spoken to in 3.1.1. Retained facts are subscribed
at QoS 0, because a QoS 1 subscription loses all but 1,020 of them on a mosquitto as it comes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from gleaner import __version__
from gleaner.bus.acknowledgements import Acknowledgements
from gleaner.bus.codec import MAX_PAYLOAD_BYTES, encode
from gleaner.bus.connection import Connection
from gleaner.bus.interface import ConnectionHandler, Handler, MalformedHandler
from gleaner.bus.link import CONNECT_SECONDS, Hears, Link
from gleaner.bus.message import Message, topic_of
from gleaner.bus.messages import Availability
from gleaner.bus.subscriptions import Subscriptions
from gleaner.bus.trust import reason as reason_of

logger = logging.getLogger(__name__)

BACKOFF_SECONDS = (0.2, 15.0)
STEADY_SECONDS = 5.0
"""A connection that lasted less was no success; the next attempt waits longer."""
FLAPS = 4
PACKET_BYTES = 1024
"""Room for topic and header: brokers limit the packet, not the payload."""
OFFLINE = "the broker cannot be reached"


class MqttBus:
    """One connection to a broker that is made again whenever it is lost; see `Bus`.

    `durable` is for who must not miss a message while away (the recorder): the broker keeps the
    session, and a message counts as received when `Delivery.acknowledge` was called. `announces`
    is off for who merely passes by (the command line): its coming and going is nobody's fact.
    """

    def __init__(
        self,
        connection: Connection,
        service: str,
        instance: str,
        *,
        durable: bool = False,
        announces: bool = True,
    ) -> None:
        self._to = connection
        self._service = service
        self._instance = instance
        self._durable = durable
        self._announces = announces
        self._client_id = self._make_client_id()
        self._subscriptions = Subscriptions()
        self._facts: dict[str, tuple[bytes, int]] = {}
        self._acknowledgements = Acknowledgements()
        self._link: Link | None = None
        """There is one while we are connected."""
        self._leaving = False
        self._asked_for: set[str] = set()
        self._refused: set[str] = set()
        self._connection = ""
        self.since = datetime.now(UTC)
        """What our availability says of when we first came."""

    @property
    def connected(self) -> bool:
        """See `Bus.connected`."""
        return self._link is not None

    @property
    def connection_id(self) -> str:
        """What our availability names this connection, or the one that is being made."""
        return self._connection

    def publish(self, message: Message) -> None:
        """See `Bus.publish`."""
        topic, payload, qos = message.topic, encode(message), int(message.contract.qos)
        if self._is_too_large(topic, payload):
            return
        if message.contract.retain:
            self._facts[topic] = (payload, qos)
        if self._link:
            self._link.publish(topic, payload, qos, retain=message.contract.retain)

    async def deliver(self, message: Message) -> str | None:
        """See `Bus.deliver`."""
        topic, payload, retain = message.topic, encode(message), message.contract.retain
        if self._is_too_large(topic, payload):
            return "it is too large"
        if retain:
            self._facts[topic] = (payload, 1)
        number = self._link.publish(topic, payload, 1, retain=retain) if self._link else None
        return OFFLINE if number is None else await self._acknowledgements.of(number)

    def _is_too_large(self, topic: str, payload: bytes) -> bool:
        """Tell what the broker would throw us off for, at every connection anew."""
        if len(payload) <= MAX_PAYLOAD_BYTES - PACKET_BYTES:
            return False
        self._complain(f"{topic}: {len(payload)} bytes are too large to be published")
        return True

    def clear(self, message_type: type[Message], **levels: str) -> None:
        """See `Bus.clear`."""
        topic = topic_of(message_type, levels)
        self._facts[topic] = (b"", 1)
        if self._link:
            self._link.publish(topic, b"", 1, retain=True)
            del self._facts[topic]

    def subscribe(self, message_type: type[Message], handler: Handler, **levels: str) -> None:
        """See `Bus.subscribe`."""
        topic_filter = self._subscriptions.add(message_type, handler, levels)
        if self._link:
            self._link.subscribe([_wish(topic_filter, message_type)])

    def on_connection(self, handler: ConnectionHandler) -> None:
        """See `Bus.on_connection`."""
        self._subscriptions.add_connection(handler)

    def on_malformed(self, handler: MalformedHandler) -> None:
        """See `Bus.on_malformed`."""
        self._subscriptions.add_malformed(handler)

    async def run(self) -> None:
        """Connect, and connect again, until cancelled; then say farewell."""
        attempt = 0
        clock = asyncio.get_running_loop().time
        while True:
            before = clock()
            was_connected = await self._live()
            attempt = 0 if was_connected and clock() - before > STEADY_SECONDS else attempt + 1
            if was_connected and attempt == FLAPS:
                # Two clients of one id throw each other off; not every broker says so.
                logger.warning(
                    "%s: lost %d times within seconds; does another client call itself %r?",
                    self._to.url,
                    FLAPS,
                    self._client_id,
                )
            low, high = BACKOFF_SECONDS
            # Full jitter: after a broker's restart a thousand nodes must not come at once.
            longest = min(high, low * 2 ** min(attempt, 10))
            await asyncio.sleep(low + random.uniform(0, longest))  # noqa: S311

    async def _live(self) -> bool:
        """Live through one connection; return whether there was one."""
        self._connection = uuid.uuid4().hex
        to = self._to
        try:
            link = self._make_link()
        except (OSError, ValueError) as error:
            said = (to.ca_file or (to.ca and "bus.ca"), to.certificate_file, to.key_file)
            files = ", ".join(file for file in said if file)
            self._complain(f"{to.url}: the certificates ({files}) cannot be used: {error}")
            return False
        connecting = asyncio.create_task(asyncio.to_thread(link.connect))
        misc = None
        try:
            await asyncio.shield(connecting)
            link.watch()
            misc = asyncio.create_task(self._housekeeping(link), name="bus housekeeping")
            await link.lost.wait()
            if not link.was_answered:
                self._complain(
                    f"{to.url}: who listens there took the connection and did not answer it "
                    "as an MQTT broker does"
                )
        except (OSError, ValueError) as error:
            self._complain(f"the broker at {to.url} cannot be reached yet: {reason_of(error)}")
        except asyncio.CancelledError:
            # The thread cannot be stopped: let it finish, so that its socket gets closed.
            await asyncio.wait([connecting])
            if connecting.exception() is None:
                await self._farewell()
            raise
        finally:
            if misc is not None:
                misc.cancel()
            was_connected = self.connected
            self._drop(link)
        if link.failure:
            raise link.failure
        return was_connected

    def _make_link(self) -> Link:
        hears = Hears(
            connected=lambda refusal: self._on_connect(link, refusal),
            subscribed=lambda refusals: self._on_subscribe(link, refusals),
            published=self._on_publish,
            received=self._on_message,
        )
        will = self._availability("offline") if self._announces else None
        link = Link(self._to, self._client_id, hears, durable=self._durable, will=will)
        return link

    def _drop(self, link: Link) -> None:
        was_connected, self._link = self.connected, None
        self._acknowledgements.lose()
        link.drop()
        if was_connected:
            if not self._leaving:
                logger.warning("lost the broker at %s", self._to.url)
            self._subscriptions.connection(False)

    async def _housekeeping(self, link: Link) -> None:
        connecting_until = asyncio.get_running_loop().time() + CONNECT_SECONDS
        while True:
            await asyncio.sleep(1)
            link.keep_alive()
            if not self.connected and asyncio.get_running_loop().time() > connecting_until:
                link.lost.set()

    def _make_client_id(self) -> str:
        if self._to.user and self._to.client_id == "user":
            return self._to.user
        # A session belongs to a client id: who wants it back after a restart must keep the id.
        own = "" if self._durable else f"-{uuid.uuid4().hex[:8]}"
        return f"gleaner-{self._service}-{self._instance}{own}"

    def _availability(self, state: str) -> tuple[str, bytes]:
        message = Availability(
            service=self._service,
            instance=self._instance,
            state="online" if state == "online" else "offline",
            connection=self._connection,
            version=__version__,
            at=datetime.now(UTC) if state == "online" else None,
            host=socket.gethostname(),
            since=self.since,
        )
        return message.topic, encode(message)

    def _on_connect(self, link: Link, refusal: str | None) -> None:
        if refusal is not None:
            if self._to.protocol == "auto" and refusal == "Unsupported protocol version":
                self._to = replace(self._to, protocol="3.1.1")
            hint = ""
            if refusal in ("Not authorized", "Bad user name or password"):
                hint = " (there is no such account, or its password is another)"
            self._complain(f"{self._to.url} refused us as {self._client_id!r}: {refusal}{hint}")
            return
        self._asked_for.clear()
        if not self._ask(link):
            self._online(link)

    def _ask(self, link: Link) -> bool:
        """Subscribe to what this connection has not asked for yet; False if that is nothing."""
        wishes = [
            _wish(topic_filter, message_type)
            for topic_filter, message_type in self._subscriptions.filters().items()
            if topic_filter not in self._asked_for
        ]
        if wishes:
            self._asked_for.update(topic_filter for topic_filter, _ in wishes)
            link.subscribe(wishes)
        return bool(wishes)

    def _on_subscribe(self, link: Link, refusals: list[str]) -> None:
        for refusal in refusals:
            self._complain(f"{self._to.url} refused a subscription: {refusal}")
        if not self.connected:
            self._online(link)

    def _online(self, link: Link) -> None:
        self._link = link
        # Somebody may have come between our question and the broker's answer.
        self._ask(link)
        self._refused.clear()
        logger.info("connected to the broker at %s", self._to.url)
        if self._announces:
            link.publish(*self._availability("online"), qos=1, retain=True)
        for topic, (payload, qos) in list(self._facts.items()):
            link.publish(topic, payload, qos, retain=True)
            if not payload:
                del self._facts[topic]
        self._subscriptions.connection(True)

    def _on_publish(self, number: int, refusal: str | None) -> None:
        if not self._acknowledgements.take(number, refusal) and refusal:
            self._complain(f"{self._to.url} refused what {self._client_id!r} published: {refusal}")

    def _on_message(
        self, topic: str, payload: bytes, retained: bool, acknowledge: Callable[[], None] | None
    ) -> None:
        delivery = self._subscriptions.receive(topic, payload, retained=retained)
        if delivery is not None and acknowledge is not None:
            delivery = replace(delivery, acknowledge=acknowledge)
        is_wanted = delivery is not None and self._subscriptions.hand_out(delivery)
        if acknowledge is not None and not is_wanted:
            # A session keeps subscriptions that an earlier version made: without a handler
            # nobody else would acknowledge it, ever.
            acknowledge()

    def _complain(self, what: str) -> None:
        if what not in self._refused:
            self._refused.add(what)
            logger.warning("%s", what)

    async def _farewell(self) -> None:
        """A clean disconnect sends no will, so say it ourselves."""
        link, self._leaving = self._link, True
        if link is None:
            return
        await link.leave(self._availability("offline") if self._announces else None)
        self._link = None


def _wish(topic_filter: str, message_type: type[Message]) -> tuple[str, int]:
    contract = message_type.contract
    return topic_filter, 0 if contract.retain else int(contract.qos)
