"""JSON Schemas of all messages, and one AsyncAPI document of the whole bus."""

from __future__ import annotations

import inspect
import json
from typing import Any

from pydantic import BaseModel

from gleaner import __version__
from gleaner.bus.message import Value, message_types
from gleaner.bus.messages import BeatBody, DesiredBody, Samples
from gleaner.cli.documents.words import field_words, models_below

SIGNED: tuple[type[Value], ...] = (DesiredBody, BeatBody)
"""What stands as text in a signed message."""
RECORDED: tuple[type[Value], ...] = (Samples,)
"""What stands in the `data` of an event, besides messages."""
_JSON_SCHEMA = "https://json-schema.org/draft/2020-12/schema"


def all_models() -> list[type[BaseModel]]:
    """Return everything that has a schema of its own."""
    return [*message_types(), *SIGNED, *RECORDED]


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a message as it is on the wire, with its words."""
    schema = model.model_json_schema(mode="serialization")
    _describe(schema, model)
    for name, definition in schema.get("$defs", {}).items():
        part = models_below(model).get(name)
        if part is not None:
            _describe(definition, part)
    return {"$schema": _JSON_SCHEMA, "$id": f"gleaner:v1/{model.__name__}", **schema}


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document: a channel, a message and who sends it, for each topic."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for message_type in message_types():
        name, contract = message_type.__name__, message_type.contract
        schema = schema_of(message_type)
        schemas |= schema.pop("$defs", {})
        schema.pop("$schema")
        schema.pop("$id")
        schemas[name] = schema
        messages[name] = {
            "name": name,
            "summary": inspect.getdoc(message_type),
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{name}"},
        }
        channels[name] = {
            "address": contract.topic,
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
            "parameters": {
                level: {"description": field_words(message_type).get(level, f"The {level}.")}
                for level in contract.levels
            },
        }
        operations[f"send{name}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": f"By {contract.writer.value} alone.",
            "bindings": {
                "mqtt": {
                    "qos": int(contract.qos),
                    "retain": contract.retain,
                    "bindingVersion": "0.2.0",
                }
            },
        }
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Gleaner",
            "version": __version__,
            "description": "What is said on the bus of Gleaner. Retained facts have one writer.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    }
    text = json.dumps(document).replace("#/$defs/", "#/components/schemas/")
    return json.loads(text)  # type: ignore[no-any-return]


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    words = field_words(model)
    schema["description"] = inspect.getdoc(model)
    for name, field in schema.get("properties", {}).items():
        if name in words:
            field["description"] = words[name]
