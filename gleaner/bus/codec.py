"""Between messages and bytes: JSON by pydantic, every mistake named with its topic."""

from __future__ import annotations

import json

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from gleaner.bus.message import Message, match

MAX_PAYLOAD_BYTES = 1_048_576
"""Larger payloads are refused unread; mosquitto is told the same limit."""


class DecodeError(ValueError):
    """A payload that is not the message its topic promises; the text names the topic and why."""


def encode(message: Message) -> bytes:
    """Return the JSON payload; None stays in it, because None is an answer."""
    try:
        return message.model_dump_json().encode()
    except PydanticSerializationError:
        # A program may have a name that is no UTF-8; its bytes show as `?`.
        text = json.dumps(message.model_dump(mode="json"), ensure_ascii=False)
        return text.encode("utf-8", "replace")


def decode(topic: str, payload: bytes) -> Message:
    """Return the message that came under a topic; raise DecodeError for anything else.

    A level of the topic that the payload lacks is filled in; one that it contradicts is refused,
    because the broker vouches for the topic alone.
    """
    found = match(topic)
    if found is None:
        raise DecodeError(f"{topic}: no message of Gleaner's has this topic")
    message_type, levels = found
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise DecodeError(f"{topic}: {len(payload)} bytes are more than {MAX_PAYLOAD_BYTES}")
    try:
        # NaN is no JSON, and a reading that is none is None.
        body = from_json(payload, allow_inf_nan=False)
    except ValueError as error:
        raise DecodeError(f"{topic}: not JSON: {error}") from error
    if not isinstance(body, dict):
        raise DecodeError(f"{topic}: a JSON object is expected")
    for name, level in levels.items():
        if body.get(name, level) != level:
            raise DecodeError(f"{topic}: {name} is {body[name]!r} in the payload")
    if not levels.keys() <= body.keys():
        payload = to_json(body | levels)
    try:
        return message_type.model_validate_json(payload)
    except ValidationError as error:
        raise DecodeError(f"{topic}: {first_mistake(error)}") from error


def first_mistake(error: ValidationError) -> str:
    """Return the first mistake of many in one line: where, and what is wrong."""
    mistake = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in mistake["loc"])
    return f"{place}: {mistake['msg']}" if place else mistake["msg"]
