"""The fleet as a table and as JSON."""

from __future__ import annotations

import io
import json

from rich.console import Console

from gleaner.bus.messages import RecorderState
from gleaner.cli.now.status import as_json, table
from gleaner.fleet import FleetView
from tests.builders import NOW
from tests.cli.fleets import example_fleet, fleet_of
from tests.web.example import Example


def shown(view: FleetView, width: int = 200, lost_seconds: float | None = None) -> dict[str, str]:
    """The lines of the table by their first words."""
    console = Console(file=io.StringIO(), width=width)
    console.print(table(view, lost_seconds))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    return {_name(line): line for line in lines if line.strip()}


def _name(line: str) -> str:
    first, *rest = line.split()
    return f"no {rest[0]}" if first == "no" else first.rstrip(":")


def test_a_gpu_has_state_age_use_memory_and_who_has_it() -> None:
    line = shown(example_fleet())["atlas:0"]

    words = ["H100", "busy", "2 h 00", "97 %", "62.4/80 GiB", "alice computes (pid 4711, python)"]
    assert [word for word in words if word not in line] == []


def test_an_idle_gpu_says_what_it_waits_for() -> None:
    assert "idle for 24 of 60 s" in shown(example_fleet())["atlas:4"]


def test_a_silent_node_is_never_shown_as_it_was() -> None:
    lines = shown(example_fleet())

    assert "unknown" in lines["draco:0"]
    assert "node is unheard" in lines["draco:0"]
    assert "busy" not in lines["draco:0"]
    assert "node is offline" in lines["cygnus:1"]
    assert "draco: unheard" in lines["draco"]


def test_a_simulated_node_is_said_to_be_one() -> None:
    assert "sim-0: online; simulated" in shown(example_fleet())["sim-0"]


def test_a_lost_broker_is_told_above_everything_with_the_age_of_what_is_below() -> None:
    first, *_ = shown(example_fleet(), lost_seconds=72).values()

    assert first.strip() == "THE BROKER CANNOT BE REACHED: this is 1 min old"
    assert as_json(example_fleet(), 72)["broker_lost_seconds"] == 72


def test_a_clock_that_is_wrong_is_said() -> None:
    example = Example(NOW)
    fleet = fleet_of([*example.messages(), example.beat("atlas", hours=1)])

    assert "its clock is 60 min behind ours" in shown(fleet)["atlas"]


def test_a_reading_that_is_missing_is_a_dash() -> None:
    assert "–" in shown(example_fleet())["atlas:7"]


def test_markup_in_names_is_text() -> None:
    text = "\n".join(shown(example_fleet()).values())

    assert "<img src=x onerror=alert(1)>" in text


def test_pauses_and_drains_are_told_with_who_and_why() -> None:
    example = Example(NOW)
    paused = fleet_of([example.paused("a [red]course[/red]", node="atlas")])

    assert "paused: atlas, by olga: a [red]course[/red]" in "\n".join(shown(paused).values())


def test_nothing_known_is_said_so() -> None:
    text = str(shown(fleet_of([])))

    assert "no node has said anything yet" in text
    assert "no scheduler is heard: nothing new starts" in text


def test_a_narrow_terminal_keeps_gpu_and_state() -> None:
    line = shown(example_fleet(), width=60)["atlas:0"]

    assert line.startswith("atlas:0")


def test_json_has_everything_and_is_json() -> None:
    said = json.loads(json.dumps(as_json(example_fleet())))

    atlas = next(node for node in said["nodes"] if node["node"] == "atlas")
    assert atlas["presence"] == "online"
    assert atlas["gpus"][0]["condition"] == "busy"
    assert atlas["gpus"][2]["run"] == "fold-7"
    assert atlas["gpus"][7]["reading"]["memory_used_bytes"] is None
    assert said["has_scheduler"] is True


def test_what_is_wrong_with_history_is_told() -> None:
    state = RecorderState(database="sqlite", problem="gleaner.sqlite: disk is full", at=NOW)
    view = fleet_of([state])

    assert "Nothing is recorded" in str(shown(view))
    assert as_json(view)["recorder"]["problem"] == "gleaner.sqlite: disk is full"
