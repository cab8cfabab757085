"""What travels inside an event: a minute's samples, as they were written down."""

from __future__ import annotations

import json
from pathlib import Path

from gleaner.bus.messages import Samples

GOLDEN = Path(__file__).parent / "golden/recorded/Samples.json"


def test_samples_look_as_they_were_written_down() -> None:
    written = json.loads(GOLDEN.read_text())

    assert Samples.model_validate_json(GOLDEN.read_text()).model_dump(mode="json") == written


def test_samples_of_a_node_that_knows_nothing_of_users_say_unknown_not_nobody() -> None:
    body = json.loads(GOLDEN.read_text())
    del body["samples"][0]["users"], body["samples"][0]["energy_used_joules"]

    (sample,) = Samples.model_validate_json(json.dumps(body)).samples

    assert sample.users is None
    assert sample.energy_used_joules is None


def test_samples_of_a_node_that_says_nothing_of_its_host_are_as_good() -> None:
    body = json.loads(GOLDEN.read_text())
    del body["host"]

    assert Samples.model_validate_json(json.dumps(body)).host == ()
