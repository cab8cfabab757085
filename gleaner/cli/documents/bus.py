"""docs/bus.md: every message with its topic, its writer and its fields."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum

from pydantic import BaseModel

from gleaner.bus.message import ROOT, Message, message_types
from gleaner.bus.messages import EventKind
from gleaner.cli.documents.schemas import RECORDED, SIGNED, all_models
from gleaner.cli.documents.words import (
    GENERATED,
    cell,
    field_words,
    models_below,
    type_words,
    types_in,
    words_below,
)

LISTENING = """\
To look: `mosquitto_sub -h 127.0.0.1 -t 'gleaner/v1/#' -v` on the machine of `gleaner up`, without
an account; in Python `gleaner.client.Client`, or `gleaner.fleet` for the whole fleet.

- Subscribe at QoS 0 or 1. Retained facts come at once, then each change; nothing says which is the
  last retained one. An empty payload means that the fact is gone.
- A retained fact may be of a node that died. It holds while the node's `Beat` comes, not retained,
  at least every 10 s, and its `Availability` does not say `offline`.
- QoS 1 may bring a message twice: an `Event` is told by `node`, `stream` and `sequence`; a retained
  message is a fact, and the later one holds.
- To ask for something (`Request`) an account is needed; the answer comes to
  `response/{client}/{id}`. What has expired is not carried out.
"""


def bus_document() -> str:
    """Return docs/bus.md."""
    return "\n".join(_bus_lines()) + "\n"


def _bus_lines() -> Iterator[str]:
    yield "# What is said on the bus"
    yield ""
    yield GENERATED
    yield ""
    yield (
        f"MQTT topics below `{ROOT}/`, JSON payloads. Instants are UTC (RFC 3339), durations are "
        "seconds, units stand in the names. `null` means: no answer; it is never 0 and never "
        "idle. A field that stands in the topic stands in the payload too. Unknown fields are "
        "ignored and new ones are optional; anything else will be `v2`."
    )
    yield ""
    yield (
        "Each topic has one writer, which the broker enforces (`mosquitto/acl.example`). Schemas: "
        "[schemas/](schemas/); for tools: [asyncapi.json](asyncapi.json)."
    )
    yield ""
    yield LISTENING
    yield "| message | topic | writer | retained | QoS |"
    yield "|---|---|---|---|---|"
    for message_type in message_types():
        name, contract = message_type.__name__, message_type.contract
        topic = contract.topic.removeprefix(f"{ROOT}/")
        retained = "yes" if contract.retain else "no"
        yield (
            f"| [{name}](#{name.lower()}) | `{topic}` | {contract.writer.value} | {retained} "
            f"| {int(contract.qos)} |"
        )
    for message_type in message_types():
        yield from _model_lines(message_type, 2)
    yield ""
    yield "## Parts of messages"
    parts: dict[str, type[BaseModel]] = {}
    for model in all_models():
        parts |= models_below(model)
    for model in [*SIGNED, *RECORDED]:
        parts[model.__name__] = model
    for name in sorted(parts):
        if not issubclass(parts[name], Message):
            yield from _model_lines(parts[name], 3)
    yield from _enum_lines()


def _model_lines(model: type[BaseModel], depth: int) -> Iterator[str]:
    yield ""
    yield f"{'#' * depth} {model.__name__}"
    yield ""
    if issubclass(model, Message):
        yield f"`{model.contract.topic}`"
        yield ""
    yield inspect.getdoc(model) or ""
    yield ""
    yield "| field | type | meaning |"
    yield "|---|---|---|"
    words = field_words(model)
    for name, field in model.model_fields.items():
        optional = "" if field.is_required() else ", optional"
        kind = cell(type_words(field.annotation))
        yield f"| `{name}` | {kind}{optional} | {cell(words.get(name, ''))} |"


def _enum_lines() -> Iterator[str]:
    # An event's kind is any word, so that a reader keeps those it does not know.
    enums: dict[str, type[Enum]] = {"EventKind": EventKind}
    for model in message_types():
        for part in [model, *models_below(model).values()]:
            for field in part.model_fields.values():
                enums |= {one.__name__: one for one in types_in(field.annotation, Enum)}
    for name in sorted(enums):
        words = words_below(enums[name])
        yield ""
        yield f"### {name}"
        yield ""
        yield inspect.getdoc(enums[name]) or ""
        yield ""
        for member in enums[name]:
            meaning = words.get(member.name)
            yield f"- `{member.value}`" + (f": {meaning}" if meaning else "")
