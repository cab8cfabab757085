"""Between messages and bytes: JSON by pydantic, every mistake named with its topic."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from gleaner.bus.message import Message, match

MAX_PAYLOAD_BYTES = 1_048_576
"""Larger payloads are refused unread; mosquitto is told the same limit."""


LARGEST_NUMBER = 2.0**63
"""What databases and other languages take; what lies beyond is no reading of anything."""
# Beginning with one class of bytes it is six times as fast as with two alternatives.
_MAY_BE_LARGE = re.compile(rb"[0-9](?:[0-9]{18}|[eE]\+?[0-9]{2})")
_TOPIC_CHARACTERS = 200
_WHY_CHARACTERS = 300


class DecodeError(ValueError):
    """A payload that is not the message its topic promises; the text names the topic and why.

    One line, and a short one, whatever somebody sent: it goes into logs.
    """

    def __init__(self, topic: str, why: str) -> None:
        super().__init__(f"{_shown(topic, _TOPIC_CHARACTERS)}: {_shown(why, _WHY_CHARACTERS)}")


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
        raise DecodeError(topic, "no message of Gleaner's has this topic")
    message_type, levels = found
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise DecodeError(topic, f"{len(payload)} bytes are more than {MAX_PAYLOAD_BYTES}")
    try:
        # NaN is no JSON, and a reading that is none is None.
        body = from_json(payload, allow_inf_nan=False)
    except ValueError as error:
        raise DecodeError(topic, f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise DecodeError(topic, "a JSON object is expected")
    if _MAY_BE_LARGE.search(payload) and _has_too_large(body):
        raise DecodeError(topic, f"a number in it is beyond {LARGEST_NUMBER:g}")
    for name, level in levels.items():
        if body.get(name, level) != level:
            raise DecodeError(topic, f"{name} is {body[name]!r} in the payload")
    if not levels.keys() <= body.keys():
        payload = to_json(body | levels)
    try:
        return message_type.model_validate_json(payload)
    except ValidationError as error:
        raise DecodeError(topic, first_mistake(error)) from error


def _has_too_large(value: Any) -> bool:
    """Whether a number is too large; JSON's 1e999 is infinite for whoever reads it."""
    rest = [value]
    while rest:
        match rest.pop():
            case dict() as inner:
                rest += inner.values()
            case list() as inner:
                rest += inner
            case bool() | str() | None:
                continue
            case number:
                if not -LARGEST_NUMBER <= number < LARGEST_NUMBER:
                    return True
    return False


def _shown(text: str, characters: int) -> str:
    """Return text as one line of printable characters, cut to a length."""
    cut = text if len(text) <= characters else text[:characters] + "…"
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in cut)


def first_mistake(error: ValidationError) -> str:
    """Return the first mistake of many in one line: where, and what is wrong."""
    mistake = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in mistake["loc"])
    return f"{place}: {mistake['msg']}" if place else mistake["msg"]
