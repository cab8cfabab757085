"""Payloads that no service of ours would send, for every topic of the contract."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gleaner.bus.message import Message, message_types, topic_of
from tests.bus.golden import GOLDEN
from tests.mosquitto import Mosquitto

DEEP = b'{"x":' * 100_000
MALFORMED: tuple[bytes, ...] = (
    os.urandom(2000),
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b"42",
    b"{",
    b'{"node": "' + b"x" * 200_000 + b'"}',
    b'{"node": "other", "service": "other", "kind": "other", "client": "other"}',
    b'{"node": [' + b"1," * 100_000 + b"1]}",
    b'{"at": NaN}',
    b'{"at": "9999-12-31T23:59:59-12:00"}',
    DEEP,
    b"[" * 200_000,
    b'{"node": ' + b"9" * 100_000 + b"}",
)
STRANGE: tuple[Any, ...] = (
    10**18,
    -(10**18),
    10**30,
    10**4000,
    1e308,
    -1e308,
    0,
    True,
    "",
    "\0\n\x1b[31m",
    "x" * 100_000,
    "9999-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00Z",
    "2999-12-31T23:59:59Z",
    "1970-01-01T00:00:00Z",
    [],
    {},
    None,
)


def levels_for(message_type: type[Message], node: str) -> dict[str, str]:
    """Return levels for a topic of this kind, of one node."""
    values = {"node": node, "instance": node, "service": "node", "kind": "drain"}
    return {name: values.get(name, "bad") for name in message_type.contract.levels}


def malformed(node: str) -> Iterator[tuple[str, bytes]]:
    """Return every malformed payload under a topic of every kind."""
    for message_type in message_types():
        for payload in MALFORMED:
            yield topic_of(message_type, levels_for(message_type, node)), payload


def strange(node: str, *, without: frozenset[type[Message]]) -> Iterator[tuple[str, bytes]]:
    """Return messages that are almost well: in each, one value is not what anybody expects."""
    for golden in GOLDEN:
        if type(golden) in without:
            continue
        levels = levels_for(type(golden), node)
        body = json.loads(golden.model_dump_json()) | levels
        if "expires_at" in body:
            body["expires_at"] = "2999-01-01T00:00:00Z"
        for path in _leaves({name: one for name, one in body.items() if name not in levels}):
            for value in STRANGE:
                yield topic_of(type(golden), levels), _with(body, path, value)
            # A number that is valid JSON, and infinite for whoever reads it.
            yield topic_of(type(golden), levels), _with(body, path, "@").replace(b'"@"', b"1e999")


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    if path:
        yield path
    for name, one in inside:
        yield from _leaves(one, (*path, name))


def _with(body: dict[str, Any], path: tuple[Any, ...], value: Any) -> bytes:
    copy = json.loads(json.dumps(body))
    place = copy
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    if isinstance(value, int) and abs(value) > 10**300:
        place[path[-1]] = "@"
        return json.dumps(copy).encode().replace(b'"@"', b"9" * 4000)
    return json.dumps(copy).encode()


class Intruder:
    """A client that may publish anything."""

    def __init__(self, broker: Mosquitto) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="intruder")
        self._client.max_queued_messages_set(0)
        self._client.max_inflight_messages_set(100)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish something, and wait until the broker has it."""
        self._client.publish(topic, payload, 1, retain=retain).wait_for_publish(20)

    def say_all(self, what: Iterator[tuple[str, bytes]]) -> int:
        """Publish many; return how many there were."""
        sent = [self._client.publish(topic, payload, 1) for topic, payload in what]
        for one in sent:
            one.wait_for_publish(60)
        return len(sent)

    def end(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()
