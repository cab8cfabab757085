"""Topics: made from the classes, matched back, and safe whatever a value holds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gleaner.bus.message import (
    ROOT,
    Message,
    QoS,
    filter_of,
    match,
    message_types,
    on,
    safe_level,
    topic_of,
)
from gleaner.bus.messages import Beat, GpuState, Request, Run
from tests.bus.golden import GOLDEN


@pytest.mark.parametrize("value", GOLDEN, ids=lambda value: type(value).__name__)
def test_a_topic_leads_back_to_its_message(value: Message) -> None:
    assert match(value.topic) == (type(value), value.levels())


@pytest.mark.parametrize("message_type", message_types(), ids=lambda one: one.__name__)
def test_a_topic_is_at_home_with_every_broker(message_type: type[Message]) -> None:
    topic = message_type.contract.topic

    assert topic.startswith(f"{ROOT}/")
    assert topic.count("/") <= 7
    assert message_type.contract.qos in (QoS.AT_MOST_ONCE, QoS.AT_LEAST_ONCE)


def test_no_two_messages_share_a_topic() -> None:
    for value in GOLDEN:
        fitting = [
            one
            for one in message_types()
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one.contract.topic), value.topic)
        ]
        assert fitting == [type(value)]


@given(st.text())
def test_no_value_can_leave_its_level(value: str) -> None:
    try:
        topic = topic_of(Beat, {"node": value})
    except ValueError:
        return
    assert match(topic) == (Beat, {"node": value})
    assert not set(value) & set("/+#\0")


@given(st.text())
def test_any_host_name_becomes_a_level(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9_-]+", safe_level(name))


def test_a_filter_leaves_open_what_is_not_said() -> None:
    assert filter_of(GpuState, {"node": "n1"}) == "gleaner/v1/node/n1/gpu/+/state"
    assert filter_of(Run, {}) == "gleaner/v1/node/+/run/+"
    assert filter_of(Request, {"kind": "pause"}) == "gleaner/v1/request/pause/+"


def test_a_level_that_the_topic_lacks_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no level"):
        filter_of(Beat, {"gpu": "GPU-1"})


def test_a_topic_may_only_name_fields() -> None:
    with pytest.raises(TypeError, match="which are no fields"):
        on("test/{nothing}", writer=Beat.contract.writer)(Beat)
