"""The wire format, frozen by one payload per kind of message; and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gleaner.bus.codec import MAX_PAYLOAD_BYTES, DecodeError, decode, encode
from gleaner.bus.message import Message, message_types
from gleaner.bus.messages import Beat, Event, GpuState, Recorded
from tests.bus.golden import GOLDEN

GOLDEN_FILES = Path(__file__).parent / "golden"
TOPIC = "gleaner/v1/node/n1/beat"
BODY: dict[str, Any] = {
    "node": "n1",
    "sequence": 1,
    "check_seconds": 0.5,
    "at": "2026-11-21T12:00:00Z",
}


def raw(**changes: object) -> bytes:
    return json.dumps(BODY | changes).encode()


@pytest.mark.parametrize("value", GOLDEN, ids=lambda value: type(value).__name__)
def test_the_wire_format_is_as_it_was_written_down(value: Message) -> None:
    """A changed file here breaks nodes that are not updated yet: it needs a decision."""
    file = GOLDEN_FILES / f"{type(value).__name__}.json"
    golden = json.loads(file.read_text())

    assert decode(golden["topic"], json.dumps(golden["payload"]).encode()) == value
    assert json.loads(encode(value)) == golden["payload"]
    assert value.topic == golden["topic"]


def test_every_message_has_a_golden_payload_and_no_other_has() -> None:
    names = {message_type.__name__ for message_type in message_types()}

    assert {type(value).__name__ for value in GOLDEN} == names
    assert {file.stem for file in GOLDEN_FILES.glob("*.json")} == names


@pytest.mark.parametrize("value", GOLDEN, ids=lambda value: type(value).__name__)
def test_fields_nobody_knows_are_ignored(value: Message) -> None:
    body = json.loads(encode(value)) | {"a_field_of_tomorrow": {"x": 1}}

    assert decode(value.topic, json.dumps(body).encode()) == value


def test_a_level_that_the_payload_lacks_is_filled_in() -> None:
    body = {name: value for name, value in BODY.items() if name != "node"}

    message = decode(TOPIC, json.dumps(body).encode())

    assert isinstance(message, Beat)
    assert message.node == "n1"


def test_instants_are_utc_whatever_the_sender_writes() -> None:
    message = decode(TOPIC, raw(at="2026-11-21T14:00:00+02:00"))

    assert json.loads(encode(message))["at"] == "2026-11-21T12:00:00Z"


@pytest.mark.parametrize(
    ("topic", "payload", "why"),
    [
        ("gleaner/v1/nothing", b"{}", "no message of Gleaner's"),
        ("gleaner/v2/node/n1/beat", raw(), "no message of Gleaner's"),
        ("gleaner/v1/node/a b/beat", raw(), "no message of Gleaner's"),
        ("gleaner/v1/node//beat", raw(), "no message of Gleaner's"),
        (TOPIC, b"", "not JSON"),
        (TOPIC, b"{", "not JSON"),
        (TOPIC, b"\xff", "not JSON"),
        (TOPIC, b'{"sequence": NaN}', "not JSON"),
        (TOPIC, b'{"node": "\\ud800"}', "not JSON"),
        (TOPIC, b"[" * 10_000, "not JSON"),
        (TOPIC, b"[]", "a JSON object is expected"),
        (TOPIC, b"1", "a JSON object is expected"),
        (TOPIC, raw(node="n2"), "node is 'n2' in the payload"),
        (TOPIC, raw(node=None), "node is None in the payload"),
        (TOPIC, raw(sequence="1"), "sequence: "),
        (TOPIC, raw(sequence=1.5), "sequence: "),
        (TOPIC, raw(at="2026-11-21T12:00:00"), "at: "),
        (TOPIC, raw(at="0001-01-01T00:00:00+14:00"), "at: "),
        (TOPIC, raw(at="9999-12-31T23:59:59-14:00"), "at: "),
        (TOPIC, b" " * MAX_PAYLOAD_BYTES + b"{}", "bytes are more than"),
    ],
)
def test_a_payload_that_is_no_message_is_refused_with_its_topic(
    topic: str, payload: bytes, why: str
) -> None:
    with pytest.raises(DecodeError) as refused:
        decode(topic, payload)

    assert str(refused.value).startswith(f"{topic}: ")
    assert why in str(refused.value)
    assert len(str(refused.value)) < 300


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(TOPIC, payload)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(GOLDEN),
    st.dictionaries(st.sampled_from(["at", "node", "state", "gpus", "data", "sequence"]), JSON),
)
def test_no_json_does_more_than_be_refused(value: Message, changes: dict[str, Any]) -> None:
    body = json.loads(encode(value)) | changes
    try:
        message = decode(value.topic, json.dumps(body).encode())
    except DecodeError:
        return
    encode(message)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_an_events_data_come_back_as_they_were(data: dict[str, Any]) -> None:
    body = json.dumps(data)
    event = {
        "stream": "s",
        "sequence": 1,
        "oldest_sequence": 1,
        "kind": "k",
        "data": json.loads(body),
        "boot_id": "b",
        "at": BODY["at"],
    }
    try:
        message = decode("gleaner/v1/node/n1/event", json.dumps(event).encode())
    except DecodeError:
        assert re.search(r"NaN|Infinity|\d{19}|\de\+?\d\d", body), "all but huge numbers"
        return
    assert isinstance(message, Event)
    assert json.loads(json.dumps(message.data)) == json.loads(body)


def test_a_name_that_is_no_utf_8_is_said_as_well_as_it_can_be() -> None:
    value = next(value for value in GOLDEN if isinstance(value, GpuState))
    holder = value.holders[0].model_copy(update={"command": "caf\udce9"})
    value = value.model_copy(update={"holders": (holder,)})

    said = decode(value.topic, encode(value))

    assert isinstance(said, GpuState)
    assert said.holders[0].command == "caf?"


def test_none_is_an_answer_and_stays_in_the_payload() -> None:
    assert json.loads(encode(Recorded.model_validate_json(RECORDED)))["streams"] == {}


RECORDED = '{"node": "n1", "streams": {}, "at": "2026-11-21T12:00:00Z"}'
