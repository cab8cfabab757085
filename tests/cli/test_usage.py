"""GPU-hours and series as tables and as CSV."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from rich.table import Table

from gleaner.cli.history.past import simulated
from gleaner.cli.history.usage import (
    as_csv,
    history_table,
    host_table,
    no_such_gpu,
    the_one,
    usage_table,
)
from gleaner.cli.meant import meant
from tests.builders import NOW
from tests.cli.fleets import example_fleet
from tests.web.example import gpu_id

ALICE: dict[str, Any] = {
    "user": "alice", "entry": None, "gpu_hours": 32.0, "busy_hours": 24.0, "held_hours": 8.0,
    "shared_hours": 8.0, "utilization_percent": 50.0, "energy_joules": 3_600_000.0,
}  # fmt: skip
FOLD = ALICE | {"user": None, "entry": "fold", "utilization_percent": None}
NOBODY = ALICE | {"user": None}


def lines(table: Table) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_usage_tells_people_entries_and_strangers_apart() -> None:
    assert lines(usage_table([ALICE, FOLD, NOBODY])) == [
        ["user", "entry", "GPU-hours", "busy", "held", "shared", "utilization", "kWh"],
        ["alice", "–", "32.0", "24.0", "8.0", "8.0", "50", "%", "1.00"],
        ["–", "fold", "32.0", "24.0", "8.0", "8.0", "–", "1.00"],
        ["unknown", "–", "32.0", "24.0", "8.0", "8.0", "50", "%", "1.00"],
    ]


def test_memory_is_told_where_it_is_known() -> None:
    rows = [ALICE | {"memory_byte_hours": 3 * 2**29}, FOLD | {"memory_byte_hours": None}]

    heading, alice, fold = lines(usage_table(rows))
    assert heading[-2:] == ["GiB·h", "kWh"]
    assert (alice[-2], fold[-2]) == ("1.5", "–")


def test_a_series_says_a_dash_where_nobody_knew() -> None:
    point: dict[str, Any] = {
        "start": "2026-03-01T10:00:00+00:00", "seconds": 3600.0, "idle_seconds": 900.0,
        "utilization_percent": None, "utilization_percent_max": None,
        "memory_used_bytes": 2.0**31, "temperature_celsius": 41.2, "power_watts": None,
    }  # fmt: skip

    assert lines(history_table([point]))[1] == [
        "2026-03-01", "10:00", "–", "–", "2", "GiB", "41", "°C", "–", "25", "%",
    ]  # fmt: skip


def test_a_gpu_in_mig_mode_is_neither_idle_nor_used() -> None:
    point: dict[str, Any] = {
        "start": "2026-03-01T10:00:00+00:00", "seconds": 3600.0, "idle_seconds": 0.0,
        "busy_seconds": 0.0, "utilization_percent": None, "utilization_percent_max": None,
        "memory_used_bytes": None, "temperature_celsius": 41.2, "power_watts": 240.0,
    }  # fmt: skip

    assert lines(history_table([point]))[1][-1] == "divided"
    (idle,) = lines(history_table([point | {"busy_seconds": 3600.0}]))[1:]
    assert idle[-2:] == ["0", "%"]


def test_a_series_of_a_host_says_a_dash_where_nobody_knew() -> None:
    point: dict[str, Any] = {
        "start": "2026-03-01T10:00:00+00:00", "seconds": 3600.0,
        "cpu_percent": 12.4, "cpu_percent_max": 90.0, "load_1_minute": 3.26,
        "memory_used_bytes": 2.0**31, "network_received_bytes_per_second": 2.5e6,
        "network_sent_bytes_per_second": None, "disk_used_percent": 61.5,
    }  # fmt: skip

    assert lines(host_table([point]))[1] == [
        "2026-03-01", "10:00", "12", "%", "90", "%", "3.3", "2.0", "GiB", "2.50", "MB/s", "–",
        "62", "%",
    ]  # fmt: skip


def test_csv_has_a_heading_and_keeps_the_unknown_empty() -> None:
    columns = ("user", "entry", "gpu_hours")

    assert as_csv(columns, [{"user": "a", "gpu_hours": 1.5}]) == "user,entry,gpu_hours\na,,1.5\n"
    assert as_csv(columns, []) == "user,entry,gpu_hours\n"


def test_no_name_in_csv_is_computed_by_a_spreadsheet() -> None:
    assert as_csv(("user",), [{"user": "=1+1"}, {"user": "-"}]) == "user\n'=1+1\n'-\n"


def test_a_series_is_of_one_gpu_or_node_however_it_is_called() -> None:
    def asked(target: str, *, of_host: bool = False) -> dict[str, Any] | None:
        return the_one(meant(example_fleet(), target, {"boreas": "North"}), of_host=of_host)

    assert asked("atlas:5") == asked("atlas-5") == {"gpu": gpu_id("atlas", 5)}
    assert asked("gpu-atlas-0004") == {"gpu": gpu_id("atlas", 4)}
    assert asked("North") == {"node": "boreas"}
    assert asked("North", of_host=True) == {"node": "boreas", "of": "host"}
    for several in ("gpu-atlas", "atlas:0,1", "atlas:99"):
        assert asked(several) is None
    assert asked("atlas:5", of_host=True) is None


def test_a_gpu_that_a_node_has_not_is_told_with_those_that_it_has() -> None:
    def told(target: str) -> str | None:
        return no_such_gpu(meant(example_fleet(), target, {}), target, NOW)

    assert told("atlas:99") == "node atlas has no GPU 99; it has 0, 1, 2, 3, 4, 5, 6, 7"
    assert (
        told("atlas:0,1") == "atlas:0,1 is not one GPU, but atlas:0, atlas:1: ask for one of them"
    )
    assert told("nobody:0") is None


def test_what_is_simulated_is_said_of_all_nodes_or_of_one() -> None:
    fleet = example_fleet()

    assert simulated(fleet, "atlas") is None
    assert simulated(fleet, "sim-0") == "This node is simulated: nothing of this really happened."
    part = "Part of this is simulated and never really happened: that of node sim-0."
    assert simulated(fleet, None) == part
