"""What is made from the code is current, and what it should be."""

from __future__ import annotations

import json
import re

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from gleaner.bus.access import access_rules, node_accounts
from gleaner.bus.message import message_types
from gleaner.cli.documents.__main__ import ROOT, documents
from gleaner.cli.documents.schemas import all_models, asyncapi, schema_of
from gleaner.cli.documents.words import types_in
from gleaner.settings.sections import AllSettings
from tests.builders import NOW
from tests.web.example import Example

WANTED = documents()


@pytest.mark.parametrize("name", sorted(WANTED))
def test_a_generated_document_is_current(name: str) -> None:
    assert (ROOT / name).read_text() == WANTED[name], "run `make docs`"


def test_no_schema_is_left_of_a_message_that_is_gone() -> None:
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "schemas").iterdir()}

    assert files == {name for name in WANTED if name.startswith("docs/schemas/")}


@pytest.mark.parametrize("model", all_models(), ids=lambda model: model.__name__)
def test_a_schema_is_one(model: type[BaseModel]) -> None:
    Draft202012Validator.check_schema(schema_of(model))


def test_what_is_said_fits_its_schema() -> None:
    validators = {one: Draft202012Validator(schema_of(one)) for one in message_types()}
    said = set()
    for message in Example(NOW).messages():
        validators[type(message)].validate(json.loads(message.model_dump_json()))
        said.add(type(message))

    assert len(said) > 8


def test_asyncapi_holds_together() -> None:
    document = asyncapi()
    text = json.dumps(document)

    for reference in re.findall(r'"#/([^"]+)"', text):
        found = document
        for part in reference.split("/"):
            found = found[part]
    assert document["asyncapi"] == "3.0.0"
    assert set(document["channels"]) == {one.__name__ for one in message_types()}


def test_asyncapi_has_the_form_of_version_3() -> None:
    """In our own words; the published meta-schema of 3.0.0 (380 kB) accepts the document too."""
    reference = {
        "type": "object",
        "properties": {"$ref": {"type": "string"}},
        "required": ["$ref"],
        "additionalProperties": False,
    }
    channel = {
        "type": "object",
        "properties": {
            "address": {"type": "string"},
            "messages": {"type": "object", "additionalProperties": reference},
            "parameters": {
                "type": "object",
                "propertyNames": {"pattern": "^[A-Za-z0-9_-]+$"},
                "additionalProperties": {
                    "type": "object",
                    "properties": {"description": {"type": "string"}},
                    "additionalProperties": False,
                },
            },
        },
        "required": ["address", "messages"],
        "additionalProperties": False,
    }
    operation = {
        "type": "object",
        "properties": {
            "action": {"enum": ["send", "receive"]},
            "channel": reference,
            "summary": {"type": "string"},
            "bindings": {"type": "object"},
        },
        "required": ["action", "channel"],
        "additionalProperties": False,
    }
    Draft202012Validator(
        {
            "type": "object",
            "properties": {
                "asyncapi": {"const": "3.0.0"},
                "info": {"type": "object", "required": ["title", "version"]},
                "defaultContentType": {"type": "string"},
                "channels": {"type": "object", "additionalProperties": channel},
                "operations": {"type": "object", "additionalProperties": operation},
                "components": {"type": "object"},
            },
            "required": ["asyncapi", "info"],
            "additionalProperties": False,
        }
    ).validate(asyncapi())


def test_every_setting_is_described() -> None:
    missing = []
    waiting: list[type[BaseModel]] = [AllSettings]
    while waiting:
        model = waiting.pop()
        for key, field in model.model_fields.items():
            below = types_in(field.annotation, BaseModel)
            waiting += below
            if not below and not field.description:
                missing.append(f"{model.__name__}.{key}")

    assert missing == []


def test_no_node_may_write_what_is_wished_of_it_or_recorded() -> None:
    rules = access_rules(node_accounts("n1"))
    writes = re.findall(r"topic write (\S+)", rules)

    forbidden = ("desired", "recorded", "blockers")
    assert [topic for topic in writes if topic.endswith(forbidden)] == []
    assert [topic for topic in writes if "/n1/" not in topic] == []
