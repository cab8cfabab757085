"""What every bus offers; MQTT, its in-memory twin and the node's local bus pass the same tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gleaner.bus.message import Message


def _nothing() -> None:
    """Acknowledge where nothing is to be acknowledged."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One message that arrived, or the news that a retained one was cleared."""

    message_type: type[Message]
    levels: dict[str, str]
    message: Message | None
    """None: the retained message of this topic was cleared."""
    retained: bool
    """It lay at the broker when we subscribed, so it may be old; a live one is not retained."""
    acknowledge: Callable[[], None] = field(default=_nothing)
    """Tell the broker that it is safe with us; only needed on a bus made for it."""


Handler = Callable[[Delivery], None]
"""Called in the event loop, in order of arrival; must not block and must not raise."""

ConnectionHandler = Callable[[bool], None]
MalformedHandler = Callable[[str, bytes, str], None]
"""Called with topic, payload and what is wrong with it."""


class Bus(Protocol):
    """Publish and subscribe; never blocks, survives a broker that is away."""

    @property
    def connected(self) -> bool:
        """Whether the broker is there, our subscriptions stand and our facts are published."""
        ...

    def publish(self, message: Message) -> None:
        """Say something. Offline, a retained fact waits (the last wins), all else is dropped."""
        ...

    async def deliver(self, message: Message) -> str | None:
        """Say something and wait for the broker; return None, or why it did not take it."""
        ...

    def clear(self, message_type: type[Message], **levels: str) -> None:
        """Remove a retained fact."""
        ...

    def subscribe(self, message_type: type[Message], handler: Handler, **levels: str) -> None:
        """Have a handler called for a kind of message, at these levels or all."""
        ...

    def on_connection(self, handler: ConnectionHandler) -> None:
        """Have a handler called with True after each connect and False after each loss."""
        ...

    def on_malformed(self, handler: MalformedHandler) -> None:
        """Have a handler called for each payload that is not what its topic promises."""
        ...
