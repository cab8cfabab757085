"""The bus over MQTT: paho on our event loop, a new client for every connection.

Why not paho's own reconnect: a client that is used again keeps packets of the old connection and
its acknowledgements may hit reused packet ids. Here everything essential is said anew after each
connect: subscriptions first, then our availability, then our retained facts.

MQTT 5 by default; a broker that refuses it is spoken to in 3.1.1. Retained facts are subscribed
at QoS 0, because a QoS 1 subscription loses all but 1,020 of them on a mosquitto as it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from gleaner import __version__
from gleaner.bus.codec import MAX_PAYLOAD_BYTES, encode
from gleaner.bus.dial import refuse_itself
from gleaner.bus.interface import ConnectionHandler, Handler, MalformedHandler
from gleaner.bus.message import Message, topic_of
from gleaner.bus.messages import Availability
from gleaner.bus.subscriptions import Subscriptions
from gleaner.bus.trust import reason as reason_of
from gleaner.bus.trust import trust
from gleaner.bus.window import Window

logger = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 10
BACKOFF_SECONDS = (0.2, 15.0)
ANSWER_SECONDS = 10.0
STEADY_SECONDS = 5.0
"""A connection that lasted less was no success; the next attempt waits longer."""
FLAPS = 4
SESSION_SECONDS = 24 * 3600
UNACKNOWLEDGED = 150
FULL_SECONDS = 0.005
"""How long a client that took in enough waits before it looks again."""
PACKET_BYTES = 1024
"""Room for topic and header: brokers limit the packet, not the payload."""
OFFLINE = "the broker cannot be reached"


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where the broker is and who we are there."""

    url: str
    """`mqtt://host:port` or `mqtts://host:port`."""
    user: str | None = None
    password: str | None = None
    client_id: Literal["user", "own"] = "user"
    """`own`: several connections share the account, so each makes up its client id."""
    protocol: str = "auto"
    """`5`, `3.1.1`, or `auto`: 5, and 3.1.1 where the broker refuses it."""
    ca_file: str | None = None
    ca: str | None = None
    """The certificate authority itself (PEM), where it lies in no file."""
    certificate_file: str | None = None
    key_file: str | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or (8883 if self.is_tls else 1883)

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.url).scheme == "mqtts"


class _Client(paho.Client):
    """paho reads as many packets in a row as it has unanswered ones; this one may stop between."""

    has_enough: Callable[[], bool] | None = None

    def _packet_read(self) -> MQTTErrorCode:
        if self.has_enough is not None and self.has_enough():
            return MQTTErrorCode.MQTT_ERR_AGAIN
        return super()._packet_read()


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
        self._waiting: dict[int, asyncio.Future[str | None]] = {}
        self._client: paho.Client | None = None
        self._connected = False
        self._leaving = False
        self._lost = asyncio.Event()
        self._was_answered = False
        self._failure: BaseException | None = None
        self._asked_for: set[str] = set()
        self._refused: set[str] = set()
        self._connection = ""
        self._window = Window(UNACKNOWLEDGED)
        self.since = datetime.now(UTC)
        """What our availability says of when we first came."""

    @property
    def connected(self) -> bool:
        """See `Bus.connected`."""
        return self._connected

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
        if self._connected and self._client:
            self._client.publish(topic, payload, qos, retain=message.contract.retain)

    async def deliver(self, message: Message) -> str | None:
        """See `Bus.deliver`."""
        topic, payload, retain = message.topic, encode(message), message.contract.retain
        if self._is_too_large(topic, payload):
            return "it is too large"
        if retain:
            self._facts[topic] = (payload, 1)
        if not (self._connected and self._client):
            return OFFLINE
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        info = self._client.publish(topic, payload, 1, retain=retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return OFFLINE
        self._waiting[info.mid] = answer
        try:
            return await asyncio.wait_for(answer, ANSWER_SECONDS)
        except TimeoutError:
            return f"the broker did not answer within {ANSWER_SECONDS:g} s"
        finally:
            # A later connection counts its packets from 1 again.
            if self._waiting.get(info.mid) is answer:
                del self._waiting[info.mid]

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
        if self._connected and self._client:
            self._client.publish(topic, b"", 1, retain=True)
            del self._facts[topic]

    def subscribe(self, message_type: type[Message], handler: Handler, **levels: str) -> None:
        """See `Bus.subscribe`."""
        topic_filter = self._subscriptions.add(message_type, handler, levels)
        if self._connected and self._client:
            self._client.subscribe([self._wish(self._client, topic_filter, message_type)])

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
            if self._failure:
                raise self._failure
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
        self._lost, self._was_answered = asyncio.Event(), False
        self._connection, self._window = uuid.uuid4().hex, Window(UNACKNOWLEDGED)
        to = self._to
        host, port = to.address
        try:
            client = self._make_client()
        except (OSError, ValueError) as error:
            said = (to.ca_file or (to.ca and "bus.ca"), to.certificate_file, to.key_file)
            files = ", ".join(file for file in said if file)
            self._complain(f"{to.url}: the certificates ({files}) cannot be used: {error}")
            return False
        connecting = asyncio.create_task(asyncio.to_thread(self._connect, client, host, port))
        misc = None
        try:
            await asyncio.shield(connecting)
            self._watch_socket(client)
            misc = asyncio.create_task(self._housekeeping(client), name="bus housekeeping")
            await self._lost.wait()
            if not self._was_answered:
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
            was_connected = self._connected
            self._drop(client)
        return was_connected

    def _drop(self, client: paho.Client) -> None:
        was_connected, self._connected, self._client = self._connected, False, None
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result("the connection was lost before the broker answered")
        self._waiting.clear()
        with contextlib.suppress(OSError, ValueError):
            client._sock_close()  # noqa: SLF001 - paho offers no way to close without a DISCONNECT
        if was_connected:
            if not self._leaving:
                logger.warning("lost the broker at %s", self._to.url)
            self._subscriptions.connection(False)

    async def _housekeeping(self, client: paho.Client) -> None:
        connecting_until = asyncio.get_running_loop().time() + ANSWER_SECONDS
        while True:
            await asyncio.sleep(1)
            client.loop_misc()
            if not self._connected and asyncio.get_running_loop().time() > connecting_until:
                self._lost.set()

    def _make_client_id(self) -> str:
        if self._to.user and self._to.client_id == "user":
            return self._to.user
        # A session belongs to a client id: who wants it back after a restart must keep the id.
        own = "" if self._durable else f"-{uuid.uuid4().hex[:8]}"
        return f"gleaner-{self._service}-{self._instance}{own}"

    def _make_client(self) -> paho.Client:
        version = MQTTProtocolVersion.MQTTv5
        if self._to.protocol == "3.1.1":
            version = MQTTProtocolVersion.MQTTv311
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=version,
            clean_session=None if version == MQTTProtocolVersion.MQTTv5 else not self._durable,
            reconnect_on_failure=False,
            manual_ack=self._durable,
        )
        client.connect_timeout = ANSWER_SECONDS
        if self._durable:
            client.has_enough = self._is_full
        client.max_inflight_messages_set(200)
        client.max_queued_messages_set(0)
        if self._to.user:
            client.username_pw_set(self._to.user, self._to.password)
        if self._to.is_tls:
            client.tls_set_context(
                trust(
                    ca_file=self._to.ca_file,
                    ca=self._to.ca,
                    certificate_file=self._to.certificate_file,
                    key_file=self._to.key_file,
                )
            )
        if self._announces:
            client.will_set(*self._availability("offline"), qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _watch_socket(self, client: paho.Client) -> None:
        """Have the event loop read and write; only now, since paho connects in a thread."""
        loop = asyncio.get_running_loop()

        def wants_to_write(_: paho.Client, __: object, sock: Any) -> None:
            if sock.fileno() >= 0:
                loop.add_writer(sock.fileno(), self._write, client)

        def has_written(_: paho.Client, __: object, sock: Any) -> None:
            with contextlib.suppress(OSError, ValueError):
                loop.remove_writer(sock.fileno())

        def closed(_: paho.Client, __: object, sock: Any) -> None:
            with contextlib.suppress(OSError, ValueError):
                loop.remove_reader(sock.fileno())
                loop.remove_writer(sock.fileno())

        client.on_socket_register_write = wants_to_write
        client.on_socket_unregister_write = has_written
        client.on_socket_close = closed
        sock: Any = client.socket()
        if sock is None:
            self._lost.set()
            return
        with contextlib.suppress(OSError):  # The other side may be gone already.
            # Else a fact that follows another one waits up to 40 ms for that one's TCP ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.add_reader(sock.fileno(), self._read, client)
        wants_to_write(client, None, sock)

    def _connect(self, client: paho.Client, host: str, port: int) -> None:
        properties: Properties | None = None
        clean: bool | Literal[3] = paho.MQTT_CLEAN_START_FIRST_ONLY
        if client.protocol == MQTTProtocolVersion.MQTTv5:
            clean = not self._durable
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            if self._durable:
                properties.SessionExpiryInterval = SESSION_SECONDS
                properties.ReceiveMaximum = UNACKNOWLEDGED
        client.connect(host, port, KEEP_ALIVE_SECONDS, clean_start=clean, properties=properties)
        connection: Any = client.socket()
        if connection is not None:
            refuse_itself(connection)

    def _read(self, client: paho.Client) -> None:
        self._guarded(client.loop_read)
        if self._durable and self._is_full():
            with contextlib.suppress(OSError, ValueError):
                asyncio.get_running_loop().remove_reader(client.socket())  # type: ignore[arg-type]
            self._read_later(client)

    def _is_full(self) -> bool:
        return self._window.is_full(asyncio.get_running_loop().time())

    def _read_later(self, client: paho.Client) -> None:
        asyncio.get_running_loop().call_later(FULL_SECONDS, self._read_again, client)

    def _read_again(self, client: paho.Client) -> None:
        sock: Any = client.socket()
        if sock is None or sock.fileno() < 0:
            return
        if self._is_full():
            self._read_later(client)
            return
        asyncio.get_running_loop().add_reader(sock.fileno(), self._read, client)
        # Of an encrypted connection something may have been read, and wait in us.
        self._read(client)

    def _write(self, client: paho.Client) -> None:
        self._guarded(client.loop_write)

    def _guarded(self, step: Callable[[], object]) -> None:
        """A handler that raises is a bug: end the bus, and with it the service, loudly."""
        try:
            step()
        except Exception as error:
            self._failure = error
            self._lost.set()

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

    def _on_connect(
        self, client: paho.Client, _: object, __: object, reason: ReasonCode, ___: object
    ) -> None:
        self._was_answered = True
        if reason.is_failure:
            if self._to.protocol == "auto" and reason == "Unsupported protocol version":
                self._to = replace(self._to, protocol="3.1.1")
            hint = ""
            if reason in ("Not authorized", "Bad user name or password"):
                hint = " (there is no such account, or its password is another)"
            self._complain(f"{self._to.url} refused us as {self._client_id!r}: {reason}{hint}")
            self._lost.set()
            return
        self._asked_for.clear()
        if not self._ask(client):
            self._online(client)

    def _ask(self, client: paho.Client) -> bool:
        """Subscribe to what this connection has not asked for yet; False if that is nothing."""
        wishes = [
            self._wish(client, topic_filter, message_type)
            for topic_filter, message_type in self._subscriptions.filters().items()
            if topic_filter not in self._asked_for
        ]
        if wishes:
            self._asked_for.update(topic_filter for topic_filter, _ in wishes)
            client.subscribe(wishes)
        return bool(wishes)

    def _wish(
        self, client: paho.Client, topic_filter: str, message_type: type[Message]
    ) -> tuple[str, Any]:
        qos = 0 if message_type.contract.retain else int(message_type.contract.qos)
        if client.protocol == MQTTProtocolVersion.MQTTv5:
            return topic_filter, SubscribeOptions(qos=qos)
        return topic_filter, qos

    def _on_subscribe(
        self, client: paho.Client, _: object, __: int, reasons: list[ReasonCode], ___: object
    ) -> None:
        for reason in reasons:
            if reason.is_failure:
                self._complain(f"{self._to.url} refused a subscription: {reason}")
        if not self._connected:
            self._online(client)

    def _online(self, client: paho.Client) -> None:
        self._client, self._connected = client, True
        # Somebody may have come between our question and the broker's answer.
        self._ask(client)
        self._refused.clear()
        logger.info("connected to the broker at %s", self._to.url)
        if self._announces:
            client.publish(*self._availability("online"), qos=1, retain=True)
        for topic, (payload, qos) in list(self._facts.items()):
            client.publish(topic, payload, qos, retain=True)
            if not payload:
                del self._facts[topic]
        self._subscriptions.connection(True)

    def _on_disconnect(
        self, _: paho.Client, __: object, ___: object, reason: ReasonCode, ____: object
    ) -> None:
        if reason.is_failure:
            logger.debug("disconnected: %s", reason)
        self._lost.set()

    def _on_publish(
        self, _: paho.Client, __: object, mid: int, reason: ReasonCode, ___: object
    ) -> None:
        answer = self._waiting.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(f"the broker refused it: {reason}" if reason.is_failure else None)
        elif reason.is_failure:
            self._complain(f"{self._to.url} refused what {self._client_id!r} published: {reason}")

    def _on_message(self, client: paho.Client, _: object, message: paho.MQTTMessage) -> None:
        delivery = self._subscriptions.receive(
            message.topic, bytes(message.payload), retained=message.retain
        )
        if not self._durable:
            if delivery is not None:
                self._subscriptions.hand_out(delivery)
            return

        mid, qos, window = message.mid, message.qos, self._window
        window.receive()

        def acknowledge() -> None:
            window.acknowledge(asyncio.get_running_loop().time())
            # Each connection has a client of its own, so a late acknowledgement of an earlier
            # one ends at a closed socket and cannot hit another packet's id.
            if client.is_connected():
                client.ack(mid, qos)

        if delivery is None:
            acknowledge()
        else:
            self._subscriptions.hand_out(replace(delivery, acknowledge=acknowledge))

    def _complain(self, what: str) -> None:
        if what not in self._refused:
            self._refused.add(what)
            logger.warning("%s", what)

    async def _farewell(self) -> None:
        """A clean disconnect sends no will, so say it ourselves; wait 3 s at most."""
        client, self._leaving = self._client, True
        if client is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                if self._announces:
                    info = client.publish(*self._availability("offline"), qos=1, retain=True)
                    # paho sets no asyncio.Event.
                    while not info.is_published() and not self._lost.is_set():  # noqa: ASYNC110
                        await asyncio.sleep(0.005)
                client.disconnect()
                await self._lost.wait()
        self._connected, self._client = False, None
