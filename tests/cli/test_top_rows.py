"""What `gleaner top` lists, in which order, and how it fits."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from gleaner.cli.now.top_rows import (
    COLUMNS,
    Page,
    Row,
    arrange,
    details,
    fit,
    rows,
    summary,
    widths,
)
from gleaner.names import Called
from tests.builders import NOW
from tests.cli.fleets import example_fleet, fleet_of
from tests.web.example import MARKUP, Example, gpu_id


def cells(row: Row) -> list[str]:
    """The texts of a line."""
    return [cell.text for cell in row.cells]


def by_key(page: Page) -> dict[str, list[str]]:
    """The texts of all lines of the example."""
    return {row.key: cells(row) for row in rows(example_fleet(), page)}


def test_a_gpu_has_state_age_use_memory_and_who_has_it() -> None:
    assert by_key(Page.GPUS)[f"atlas/{gpu_id('atlas', 0)}"] == [
        "atlas:0",
        "H100 80GB HBM3",
        "busy",
        "2 h 00",
        "97 %",
        "62.4/80 GiB",
        "alice computes (pid 4711, python)",
    ]


def test_nodes_and_models_are_called_as_the_administrator_calls_them() -> None:
    called = Called(nodes={"atlas": "Atlas"}, models={"NVIDIA H100 80GB HBM3": "H100"})
    found = {row.key: cells(row) for row in rows(example_fleet(), Page.GPUS, called)}
    users = {row.key: cells(row) for row in rows(example_fleet(), Page.USERS, called)}

    assert found[f"atlas/{gpu_id('atlas', 0)}"][:2] == ["Atlas:0", "H100"]
    assert users["bob"][-1] == "Atlas-5"


def test_a_gpu_is_found_by_what_its_node_and_model_really_are_called() -> None:
    called = Called(nodes={"atlas": "Zeus"}, models={"NVIDIA H100 80GB HBM3": "H"})
    found = rows(example_fleet(), Page.GPUS, called)

    assert len(arrange(found, words="atlas h100", column=None, downwards=True)) == 8


def test_a_silent_gpu_is_unknown_and_has_no_age_and_no_readings() -> None:
    line = by_key(Page.GPUS)[f"draco/{gpu_id('draco', 0)}"]

    assert line[2:] == ["unknown", "–", "–", "–", "node is unheard"]


def test_a_stale_node_says_since_when() -> None:
    later = replace(example_fleet(), at=NOW + timedelta(seconds=42))
    line = next(row for row in rows(later, Page.GPUS) if row.key.startswith("atlas/"))

    assert cells(line)[2] == "unknown"
    assert cells(line)[-1] == "node is stale, last heard 42 s ago"


def test_what_is_simulated_says_so_on_every_page_of_gpus_and_runs() -> None:
    assert by_key(Page.GPUS)[f"sim-0/{gpu_id('sim-0', 1)}"][-1].startswith("simulated")
    assert by_key(Page.RUNS)["sim-0/sim-run"][-1].startswith("simulated")


def test_runs_have_state_and_why_and_what_is_over_stays() -> None:
    assert by_key(Page.RUNS)["atlas/fold-5"] == [
        "fold",
        "fold-5",
        "evicted",
        "2 h 00",
        "atlas:0",
        "evicted: GPU 0: alice computes (pid 4711, python)",
    ]


def test_a_run_of_a_silent_node_is_told_as_the_past() -> None:
    later = replace(example_fleet(), at=NOW + timedelta(seconds=42))
    line = next(row for row in rows(later, Page.RUNS) if row.key == "atlas/fold-7")

    assert cells(line)[2:4] == ["was running", "–"]


def test_a_filter_wants_all_its_words_anywhere_in_the_line() -> None:
    found = rows(example_fleet(), Page.GPUS)

    def kept(words: str) -> list[str]:
        return [cells(row)[0] for row in arrange(found, words=words, column=None, downwards=True)]

    assert kept("H100 idle") == ["atlas:4", "sim-0:1", "sim-0:2"]
    assert kept(gpu_id("boreas", 2)) == ["boreas:2"]
    assert kept("nothing of the kind") == []


def test_what_is_unknown_comes_last_in_every_order() -> None:
    found = rows(example_fleet(), Page.GPUS)
    use = [column.title for column in COLUMNS[Page.GPUS]].index("Use")

    for downwards in (True, False):
        ordered = [
            row.cells[use].value
            for row in arrange(found, words="", column=use, downwards=downwards)
        ]
        known = [value for value in ordered if value is not None]
        assert ordered[: len(known)] == known
        assert known == sorted(known, reverse=downwards)  # type: ignore[type-var]


@pytest.mark.parametrize("page", list(Page))
@pytest.mark.parametrize("room", [40, 78, 109, 110, 200])
def test_columns_take_the_room_there_is(page: Page, room: int) -> None:
    given = widths(page, room)

    assert given[-1] >= 12
    assert room < 78 or sum(given) + 2 * sum(width > 0 for width in given) == room


def test_what_does_not_fit_is_cut_at_the_end_that_says_less() -> None:
    assert fit("a\nlong  name", 20) == "a long name"
    assert fit("workstation-417:0", 8) == "worksta…"
    assert fit("workstation-417:0", 8, keeps_end=True) == "…n-417:0"


def test_the_summary_counts_and_tells_what_is_wrong() -> None:
    lines = summary(example_fleet(), Page.USERS)

    assert lines[0].startswith("23 GPUs: 6 idle, 4 busy, 1 held, 3 ours, 1 dirty, 1 lost")
    assert "4 of 6 nodes online (cygnus offline, draco unheard); simulated" in lines[1]
    assert "draco is unheard: its last 1 process not counted" in lines
    assert summary(fleet_of([]), Page.GPUS)[0] == "no node has said anything yet"
    assert summary(fleet_of([]), Page.GPUS)[-1] == "no scheduler is heard: nothing new starts"


def test_details_of_a_gpu_are_its_blockers() -> None:
    found = details(example_fleet(), Page.GPUS, f"atlas/{gpu_id('atlas', 4)}")

    assert found == (
        f"atlas:4 ({gpu_id('atlas', 4)})",
        ["NVIDIA H100 80GB HBM3", "idle", "", "- idle for 24 of 60 s"],
    )


def test_details_of_a_run_say_why_it_left_and_how_fast() -> None:
    found = details(example_fleet(), Page.RUNS, "atlas/fold-5")

    assert found is not None
    assert "Made to leave by: GPU 0: alice computes (pid 4711, python)" in found[1]
    assert "From noticing to a free GPU: 0.60 s" in found[1]


def test_what_is_gone_has_no_details() -> None:
    view = example_fleet()

    assert details(view, Page.GPUS, "nowhere/GPU-1") is None
    assert details(view, Page.GPUS, "atlas/GPU-1") is None
    assert details(view, Page.RUNS, "atlas/fold-99") is None


def test_users_are_those_of_the_command() -> None:
    assert by_key(Page.USERS)[MARKUP][3:] == ["3 min", "boreas-0"]


def test_a_filter_narrows_a_fleet_in_the_order_of_a_column() -> None:
    example = Example(NOW)
    view = fleet_of(
        example.state(f"n{node}", index, "idle", "", hours=1)
        for node in range(50)
        for index in range(8)
    )

    assert len(arrange(rows(view, Page.GPUS), words="n4", column=0, downwards=False)) == 88
