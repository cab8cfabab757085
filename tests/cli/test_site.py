"""The static page: who may take which GPU, as text, by colour and for programs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta, timezone
from html.parser import HTMLParser

import pytest

from gleaner.bus.message import Message
from gleaner.bus.messages import GpuCondition, Holder, Inventory, Telemetry
from gleaner.cli.now.site import COLUMNS, Card, Line, Verdict, cards, counts, judge, rows
from gleaner.cli.now.site_page import render
from gleaner.fleet import FleetView
from gleaner.names import Called
from tests.builders import NOW
from tests.cli.fleets import example_fleet, fleet_of
from tests.web.example import A100, GIB, MARKUP, Example, gpu_id

EXAMPLE = Example(NOW)
ZONE = timezone(timedelta(hours=1), "CET")


def page(view: FleetView, problem: str = "", every_seconds: float | None = None) -> str:
    """The page as it is written."""
    return render(
        cards(view), written_at=view.at, zone=ZONE, problem=problem, every_seconds=every_seconds
    )


def card(view: FleetView, name: str) -> Card:
    """One host's card."""
    return next(one for one in cards(view) if one.name == name)


def node(
    state: str = "busy", *holders: Holder, load: float = 0, activity: float = 0, name: str = "n1"
) -> Iterator[Message]:
    """A living node with one GPU."""
    yield EXAMPLE.inventory(name, A100, 1, 40 * GIB, notices="check")
    yield EXAMPLE.state(name, 0, state, "", *holders, hours=1)
    telemetry = EXAMPLE.telemetry(name, [(load, 1, 40, 100)], 40)
    reading = telemetry.gpus[0].model_copy(update={"memory_utilization_percent": activity})
    yield Telemetry.model_validate(dict(telemetry) | {"gpus": (reading,)})
    yield EXAMPLE.beat(name)


def line(*messages: Message) -> Line:
    """The only GPU of these messages."""
    (only,) = card(fleet_of(messages), "n1").lines
    return only


class Shape(HTMLParser):
    """Tags and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.focusable: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.addresses += [given[name] or "" for name in ("href", "src") if name in given]
        if "tabindex" in given:
            self.focusable.append(given.get("class") or "")


def test_a_page_that_is_written_once_says_so_and_does_not_reload() -> None:
    once = page(example_fleet())

    assert "refresh" not in once
    assert "reload" not in once
    assert '>2026-11-21 13:00:00 CET</time><span id="age"></span>, once: what came after' in once

    again = page(example_fleet(), every_seconds=300)
    assert '<meta http-equiv="refresh" content="60">' in again
    assert ", and again each 5 min." in again


@pytest.mark.parametrize(
    ("load", "activity", "is_held", "verdict"),
    [
        (0, 0, False, Verdict.FREE),
        (4, 2, False, Verdict.FREE),
        (5, 0, False, Verdict.OCCUPIED),
        (0, 3, False, Verdict.OCCUPIED),
        (0, 0, True, Verdict.OCCUPIED),
    ],
)
def test_load_activity_or_a_user_make_a_gpu_occupied(
    load: float, activity: float, is_held: bool, verdict: Verdict
) -> None:
    assert judge(GpuCondition.IDLE, load, activity, is_held=is_held) is verdict


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        (GpuCondition.BUSY, Verdict.OCCUPIED),
        (GpuCondition.HELD, Verdict.OCCUPIED),
        (GpuCondition.DIRTY, Verdict.OCCUPIED),
        (GpuCondition.OURS, Verdict.ON_DEMAND),
        (GpuCondition.LOST, Verdict.LOST),
        (GpuCondition.UNKNOWN, Verdict.UNKNOWN),
    ],
)
def test_only_an_idle_gpu_is_free(condition: GpuCondition, verdict: Verdict) -> None:
    assert judge(condition, None, None, is_held=False) is verdict


def test_users_are_named_once_with_the_number_of_their_processes() -> None:
    alice, bob = (EXAMPLE.holder(1, name, "python", GIB, hours=1) for name in ("alice", "bob"))
    other = alice.model_copy(update={"pid": 2})

    assert line(*node("busy", alice, other, bob)).users == "alice (2), bob"


def test_a_gpu_held_by_nobody_we_can_name_is_occupied_by_unknown() -> None:
    zombie = EXAMPLE.holder(9, "", "python", GIB, hours=1).model_copy(
        update={"user": None, "user_id": None, "alive": False}
    )

    assert (line(*node("dirty")).verdict, line(*node("dirty")).users) == ("occupied", "unknown")
    assert line(*node("busy", zombie)).users == "unknown"


def test_a_free_gpu_has_no_user_text() -> None:
    text = page(fleet_of(node("idle")))

    assert line(*node("idle")).users == ""
    assert Shape(text).focusable == []
    assert 'role="tooltip"' not in text


def test_an_occupied_gpu_says_who_and_how_much_by_hover_focus_and_text() -> None:
    alice = EXAMPLE.holder(1, "alice", "python", GIB, hours=1)
    text = page(fleet_of(node("busy", alice, load=50)))

    assert Shape(text).focusable == ["state occupied"]
    assert "alice<br>Memory: 1,024 MiB (2 %)" in text
    assert '<td class="users">alice</td>' in text
    assert "-1" not in re.sub(r"<style>.*?</style>|\d{4}-\d\d-\d\d", "", text, flags=re.DOTALL)
    assert "None" not in text


def test_what_only_we_hold_is_distinguishable() -> None:
    text = page(example_fleet())

    assert "↻ on demand" in text
    assert [one.verdict for one in card(example_fleet(), "atlas").lines][2] is Verdict.ON_DEMAND
    assert 'class="state on-demand"' in text


def test_hosts_are_sorted_by_name_and_gpus_by_index() -> None:
    found = cards(example_fleet())

    assert [one.name for one in found] == [
        "atlas",
        "boreas",
        "cygnus",
        "draco",
        "sim-0",
        "workstation-of-the-imaging-group-room-417",
    ]
    assert [one.index for one in found[0].lines] == list(range(8))


def test_each_host_says_when_it_was_heard_with_zone() -> None:
    text = page(example_fleet())

    assert text.count("Last update: 2026-11-21 13:00:00 CET") >= 4
    assert text.count("Last update:") == 6


def test_a_host_that_is_down_stays_as_it_was_and_the_others_go_on() -> None:
    view = example_fleet()
    text = page(view)

    assert not card(view, "cygnus").is_current
    assert "offline: as last known" in text
    assert text.count("✓ was free") == 5
    assert dict(counts(cards(view)))[Verdict.UNKNOWN] == 4 + 2 + 1
    assert card(view, "atlas").is_current


def test_programs_are_told_nothing_of_what_is_not_known_now() -> None:
    hosts = {row[6] for row in rows(example_fleet())}
    indices = [row[3] for row in rows(example_fleet()) if row[6] == "atlas.example.org"]

    assert "cygnus.example.org" not in hosts
    assert "draco.example.org" not in hosts
    assert indices == [0, 1, 2, 3, 4, 5, 6]


def test_the_table_for_programs_has_the_eight_columns_of_old() -> None:
    alice = EXAMPLE.holder(1, "alice", "python", GIB, hours=1)
    messages = [*node("busy", alice, alice, load=97, activity=31.5)]

    assert COLUMNS == (
        "",
        "load",
        "load_mem",
        "gpu_idx",
        "gpu_name",
        "gpu_uuid",
        "hostname",
        "username",
    )
    assert rows(fleet_of(messages)) == [
        (0, 97, 31.5, 0, f" {A100}", f" {gpu_id('n1', 0)}", "n1.example.org", "alice, alice")
    ]


def test_the_rows_of_each_host_are_numbered_from_0() -> None:
    found = rows(example_fleet())

    assert len({row[6] for row in found}) > 1
    for host in {row[6] for row in found}:
        mine = [row[0] for row in found if row[6] == host]
        assert mine == [*range(len(mine))]


def test_what_is_simulated_is_marked_on_the_page_and_for_programs() -> None:
    assert '<span class="mark">simulated</span>' in page(example_fleet())
    assert [row[4] for row in rows(example_fleet()) if row[6] == "sim-0"] == [
        " Simulated H100 (simulated)"
    ] * 3


def test_the_parent_of_mig_devices_is_not_a_gpu_to_take() -> None:
    messages = list(node("idle"))
    (inventory,) = [one for one in messages if isinstance(one, Inventory)]
    parent = inventory.gpus[0].model_copy(update={"schedulable": False})
    view = fleet_of([*messages, inventory.model_copy(update={"gpus": (parent,)})])

    assert card(view, "n1").lines == ()
    assert "No GPU has been told of." in page(view)


def test_names_are_text_and_never_markup() -> None:
    text = page(example_fleet())

    assert MARKUP not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "img" not in Shape(text).tags


def test_the_page_needs_no_script_and_nothing_from_elsewhere() -> None:
    shape = Shape(page(example_fleet()))

    # It tells the age of the page, and that is all.
    assert shape.tags.count("script") == 1
    assert shape.addresses == ["data:,", "load_data.csv"]


def test_a_lost_broker_is_said_on_the_page() -> None:
    assert "cannot be reached" in page(example_fleet(), problem="The broker cannot be reached.")


def test_nothing_known_is_said_so() -> None:
    assert "No host has said anything yet." in page(fleet_of([]))


def test_a_fleet_that_fell_silent_has_nothing_free() -> None:
    later = replace(example_fleet(), at=NOW + timedelta(seconds=42))

    assert [verdict for verdict, _ in counts(cards(later))] == [Verdict.UNKNOWN]
    assert rows(later) == []
    assert "stale: as last known" in page(later)


def test_short_names_stand_on_the_page_and_full_ones_in_the_table() -> None:
    called = Called(nodes={"atlas": "Zeus"}, models={"NVIDIA H100 80GB HBM3": "H100"})
    found = {card.name: card for card in cards(example_fleet(), called)}
    table = rows(example_fleet())

    assert found["Zeus"].model == "H100"
    assert found["Zeus"].full_model == "NVIDIA H100 80GB HBM3"
    assert ("atlas.example.org", " NVIDIA H100 80GB HBM3") in {(row[6], row[4]) for row in table}
