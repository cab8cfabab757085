"""One connection to a broker, from its attempt to its loss: paho on our event loop.

Why not paho's own reconnect: a client that is used again keeps packets of the old connection and
its acknowledgements may hit reused packet ids. So each connection has a client of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from gleaner.bus.connection import Connection
from gleaner.bus.dial import refuse_itself
from gleaner.bus.trust import trust
from gleaner.bus.window import Window

logger = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 10
CONNECT_SECONDS = 10.0
FAREWELL_SECONDS = 3.0
SESSION_SECONDS = 24 * 3600
UNACKNOWLEDGED, UNACKNOWLEDGED_BYTES = 150, 1_048_576
FULL_SECONDS = 0.005
"""How long a client that took in enough waits before it looks again."""


@dataclass(frozen=True, kw_only=True)
class Hears:
    """Who is told what a broker says; a refusal is in its words."""

    connected: Callable[[str | None], None]
    """With why it does not let us in."""
    subscribed: Callable[[list[str]], None]
    """With its refusals."""
    published: Callable[[int, str | None], None]
    """The number of what was published, and why it was refused."""
    received: Callable[[str, bytes, bool, Callable[[], None] | None], None]
    """Topic, payload, whether it was retained, and how to acknowledge it where that is for us."""


class _Client(paho.Client):
    """paho reads as many packets in a row as it has unanswered ones; this one may stop between."""

    has_enough: Callable[[], bool] | None = None

    def _packet_read(self) -> MQTTErrorCode:
        if self.has_enough is not None and self.has_enough():
            return MQTTErrorCode.MQTT_ERR_AGAIN
        return super()._packet_read()


class Link:
    """One client and its socket; `lost` is set when it is over, `failure` if by a fault of ours.

    `durable` is for who must not miss a message while away; see `MqttBus`.
    """

    def __init__(
        self,
        to: Connection,
        client_id: str,
        hears: Hears,
        *,
        durable: bool,
        will: tuple[str, bytes] | None,
    ) -> None:
        """Make the client; raise OSError or ValueError where the certificates cannot be used."""
        self._address = to.address
        self._hears = hears
        self._durable = durable
        self._window = Window(UNACKNOWLEDGED, UNACKNOWLEDGED_BYTES)
        self._client = self._make_client(to, client_id, will)
        self.lost = asyncio.Event()
        self.was_answered = False
        self._is_stepping = False
        """Whether paho is at work, and calls us."""
        self.failure: BaseException | None = None

    def _make_client(
        self, to: Connection, client_id: str, will: tuple[str, bytes] | None
    ) -> paho.Client:
        version = MQTTProtocolVersion.MQTTv5
        if to.protocol == "3.1.1":
            version = MQTTProtocolVersion.MQTTv311
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=version,
            clean_session=None if version == MQTTProtocolVersion.MQTTv5 else not self._durable,
            reconnect_on_failure=False,
            manual_ack=self._durable,
        )
        client.connect_timeout = CONNECT_SECONDS
        if self._durable:
            client.has_enough = self._is_full
        client.max_inflight_messages_set(200)
        client.max_queued_messages_set(0)
        if to.user:
            client.username_pw_set(to.user, to.password)
        if to.is_tls:
            client.tls_set_context(
                trust(
                    ca_file=to.ca_file,
                    ca=to.ca,
                    certificate_file=to.certificate_file,
                    key_file=to.key_file,
                )
            )
        if will:
            client.will_set(*will, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def connect(self) -> None:
        """Connect, for which a thread waits; OSError or ValueError where that is not possible."""
        client = self._client
        properties: Properties | None = None
        clean: bool | Literal[3] = paho.MQTT_CLEAN_START_FIRST_ONLY
        if client.protocol == MQTTProtocolVersion.MQTTv5:
            clean = not self._durable
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            if self._durable:
                properties.SessionExpiryInterval = SESSION_SECONDS
                properties.ReceiveMaximum = UNACKNOWLEDGED
        host, port = self._address
        client.connect(host, port, KEEP_ALIVE_SECONDS, clean_start=clean, properties=properties)
        connection: Any = client.socket()
        if connection is not None:
            refuse_itself(connection)

    def watch(self) -> None:
        """Have the event loop read and write; only now, since paho connects in a thread."""
        client, loop = self._client, asyncio.get_running_loop()

        def wants_to_write(_: paho.Client, __: object, sock: Any) -> None:
            if sock.fileno() >= 0:
                loop.add_writer(sock.fileno(), self._write)

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
            self.lost.set()
            return
        with contextlib.suppress(OSError):  # The other side may be gone already.
            # Else a fact that follows another one waits up to 40 ms for that one's TCP ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.add_reader(sock.fileno(), self._read)
        wants_to_write(client, None, sock)

    def publish(self, topic: str, payload: bytes, qos: int, *, retain: bool) -> int | None:
        """Send a message; return its number, None if it was not sent."""
        info = self._client.publish(topic, payload, qos, retain=retain)
        if not self._is_stepping:
            # At once: with the next turn of the loop, whoever must leave would hear of it only when
            # the speaker has done everything else. Within paho's own step it would lock itself up.
            self._write()
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def subscribe(self, wishes: Iterable[tuple[str, int]]) -> None:
        """Ask for what fits topic filters, each with its QoS."""
        options: list[tuple[str, Any]] = [
            (topic_filter, SubscribeOptions(qos=qos) if self._is_5 else qos)
            for topic_filter, qos in wishes
        ]
        self._client.subscribe(options)

    def keep_alive(self) -> None:
        """Ping when it is time, and notice that nobody answers; to be called each second."""
        self._client.loop_misc()

    async def leave(self, last: tuple[str, bytes] | None) -> None:
        """Say a last fact and disconnect in order; wait 3 s at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                if last:
                    info = self._client.publish(*last, qos=1, retain=True)
                    # paho sets no asyncio.Event.
                    while not info.is_published() and not self.lost.is_set():  # noqa: ASYNC110
                        await asyncio.sleep(0.005)
                self._client.disconnect()
                await self.lost.wait()

    def drop(self) -> None:
        """Close the socket, without a word: then the broker says the will."""
        with contextlib.suppress(OSError, ValueError):
            self._client._sock_close()  # noqa: SLF001 - paho offers no way to close without a DISCONNECT

    @property
    def _is_5(self) -> bool:
        return self._client.protocol == MQTTProtocolVersion.MQTTv5

    def _read(self) -> None:
        self._guarded(self._client.loop_read)
        if self._durable and self._is_full():
            with contextlib.suppress(OSError, ValueError):
                asyncio.get_running_loop().remove_reader(self._client.socket())  # type: ignore[arg-type]
            self._read_later()

    def _is_full(self) -> bool:
        return self._window.is_full(asyncio.get_running_loop().time())

    def _read_later(self) -> None:
        asyncio.get_running_loop().call_later(FULL_SECONDS, self._read_again)

    def _read_again(self) -> None:
        sock: Any = self._client.socket()
        if sock is None or sock.fileno() < 0:
            return
        if self._is_full():
            self._read_later()
            return
        asyncio.get_running_loop().add_reader(sock.fileno(), self._read)
        # Of an encrypted connection something may have been read, and wait in us.
        self._read()

    def _write(self) -> None:
        self._guarded(self._client.loop_write)

    def _guarded(self, step: Callable[[], object]) -> None:
        """A handler that raises is a bug: end the bus, and with it the service, loudly."""
        self._is_stepping = True
        try:
            step()
        except Exception as error:
            self.failure = error
            self.lost.set()
        finally:
            self._is_stepping = False

    def _on_connect(
        self, _: paho.Client, __: object, ___: object, reason: ReasonCode, ____: object
    ) -> None:
        self.was_answered = True
        self._hears.connected(_refusal(reason))
        if reason.is_failure:
            self.lost.set()

    def _on_subscribe(
        self, _: paho.Client, __: object, ___: int, reasons: list[ReasonCode], ____: object
    ) -> None:
        self._hears.subscribed([str(reason) for reason in reasons if reason.is_failure])

    def _on_disconnect(
        self, _: paho.Client, __: object, ___: object, reason: ReasonCode, ____: object
    ) -> None:
        if reason.is_failure:
            logger.debug("disconnected: %s", reason)
        self.lost.set()

    def _on_publish(
        self, _: paho.Client, __: object, mid: int, reason: ReasonCode, ___: object
    ) -> None:
        self._hears.published(mid, _refusal(reason))

    def _on_message(self, client: paho.Client, _: object, message: paho.MQTTMessage) -> None:
        topic, payload = message.topic, bytes(message.payload)
        if not self._durable or message.qos == 0:
            # What came at QoS 0 nobody acknowledges, so it must not count as waiting for that.
            self._hears.received(topic, payload, message.retain, None)
            return

        mid, qos, window = message.mid, message.qos, self._window
        window.receive(len(payload))

        def acknowledge() -> None:
            window.acknowledge(len(payload), asyncio.get_running_loop().time())
            # Each connection has a client of its own, so a late acknowledgement of an earlier
            # one ends at a closed socket and cannot hit another packet's id.
            if client.is_connected():
                client.ack(mid, qos)

        self._hears.received(topic, payload, message.retain, acknowledge)


def _refusal(reason: ReasonCode) -> str | None:
    return str(reason) if reason.is_failure else None
