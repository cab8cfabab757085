"""Why nothing runs on a GPU, and why a workload does not."""

from __future__ import annotations

import pytest

from gleaner.bus.messages import Blocker, Inventory
from gleaner.cli.now.why import Answer, NotFound, lines, why
from tests.builders import NOW
from tests.cli.fleets import example_fleet, fleet_of
from tests.web.example import Example, gpu_id

BARE = Inventory(
    node="bare",
    host="bare",
    boot_id="b1",
    agent_version="0.1.0",
    source="device-files",
    gpus=(),
    notices_opens_by="fanotify",
    notices_people_by="fanotify",
    limitations=("NVML cannot be used",),
    at=NOW,
)


def texts(answer: Answer) -> list[str]:
    return [blocker.text for blocker in answer.blockers]


def test_a_gpu_is_named_by_node_and_index() -> None:
    (answer,) = why(example_fleet(), "atlas:5")

    assert answer.what == f"atlas:5 ({gpu_id('atlas', 5)})"
    assert answer.note.startswith("held: bob holds 38 GiB")
    assert texts(answer) == ["bob holds 38 GiB and has done nothing for 5 h (pid 990)"]


def test_a_gpu_is_named_by_the_beginning_of_its_uuid() -> None:
    (answer,) = why(example_fleet(), "gpu-atlas-0004")

    assert texts(answer) == ["idle for 24 of 60 s"]


def test_three_letters_are_too_few_for_a_uuid() -> None:
    with pytest.raises(NotFound):
        why(example_fleet(), "GPU")


def test_a_node_means_all_its_gpus() -> None:
    assert len(why(example_fleet(), "atlas")) == 8


def test_what_stands_against_all_gpus_is_said_once() -> None:
    first, second = Blocker(code="person", text="ann is here"), Blocker(code="hot", text="90 °C")
    answers = [
        Answer(what="n1:0", note="idle", blockers=(first,)),
        Answer(what="n1:1", note="idle", blockers=(first, second)),
    ]

    assert [*lines(answers)] == [
        "all 2:",
        "  - ann is here",
        "n1:0: idle",
        "n1:1: idle",
        "  - 90 °C",
    ]
    free = Answer(what="n1:2", note="idle", blockers=())
    assert [*lines([answers[0], free])] == [
        "n1:0: idle",
        "  - ann is here",
        "n1:2: idle",
        "  nothing stands against it",
    ]
    assert [*lines(answers[:1])] == ["n1:0: idle", "  - ann is here"]


def test_a_node_without_a_gpu_says_so() -> None:
    (answer,) = why(fleet_of([BARE]), "bare")

    assert texts(answer) == ["NVML cannot be used"]
    assert answer.note.startswith("no GPU is known there, so nothing can run")


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(NotFound, match=r"no such GPU, node or workload .*nodes: atlas"):
        why(example_fleet(), "nonsense")


def test_a_gpu_with_a_run_says_which() -> None:
    (answer,) = why(example_fleet(), "atlas:2")

    assert answer.note.startswith("fold runs here: ")


def test_nothing_in_the_way_is_an_empty_list() -> None:
    (answer,) = why(example_fleet(), "sim-0:1")

    assert answer.blockers == ()


def test_a_workload_is_named_alone_or_with_its_node() -> None:
    expected = ["held: it failed 5 times in a row (exit 139)"]

    assert [texts(answer) for answer in why(example_fleet(), "render")] == [expected]
    assert [texts(answer) for answer in why(example_fleet(), "atlas/render")] == [expected]


def test_a_silent_node_is_the_reason() -> None:
    (answer,) = why(example_fleet(), "cygnus:0")

    assert texts(answer) == ["node cygnus is offline"]


def test_a_silent_scheduler_is_the_first_reason() -> None:
    example = Example(NOW)
    alone = fleet_of([*example.atlas(), example.beat("atlas")])

    (answer,) = why(alone, "atlas:4")

    assert texts(answer)[0] == "no scheduler is heard: nothing new starts"


def test_an_unknown_name_is_answered_with_what_there_is() -> None:
    with pytest.raises(
        NotFound, match=r"atlas:99: there is no such GPU, node or workload \(GPUs: atlas:0"
    ):
        why(example_fleet(), "atlas:99")


def test_an_answer_is_json_too() -> None:
    (answer,) = why(example_fleet(), "atlas:4")

    assert answer.as_json()["blockers"] == [
        {"code": "idle_for", "text": "idle for 24 of 60 s", "until": None}
    ]
