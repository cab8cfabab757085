"""Who uses GPUs, added up over hosts."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from datetime import timedelta

from rich.console import Console

from gleaner.bus.message import Message
from gleaner.bus.messages import Beat, Holder, Inventory
from gleaner.cli.now.users import COLUMNS, amount, as_json, not_counted, rows, table, users
from gleaner.fleet import FleetView
from tests.builders import NOW
from tests.cli.fleets import example_fleet, fleet_of
from tests.web.example import A100, GIB, MARKUP, Example

EXAMPLE = Example(NOW)
MIB = 2**20


def holder(user: str | None, mebibytes: int | None, pid: int = 1, **changes: object) -> Holder:
    """A process that started five minutes ago."""
    found = EXAMPLE.holder(pid, user or "", "python", 0, minutes=5)
    memory = None if mebibytes is None else mebibytes * MIB
    return found.model_copy(update={"user": user, "memory_used_bytes": memory, **changes})


def node(
    name: str, gpus: dict[int, list[Holder]], host: str | None = None, *, beats: bool = True
) -> Iterable[Message]:
    """A node whose GPUs are held by these processes."""
    inventory = EXAMPLE.inventory(name, A100, max(gpus) + 1, 40 * GIB, notices="check")
    yield Inventory.model_validate(dict(inventory) | {"host": host or name})
    for index, holders in gpus.items():
        yield EXAMPLE.state(name, index, "busy" if holders else "idle", "", *holders, hours=1)
    if beats:
        yield EXAMPLE.beat(name)


def said(view: FleetView) -> list[tuple[str, str, int, str]]:
    """The table's four columns of old."""
    return [(one.user, one.memory, one.n_procs, one.gpus) for one in users(view)]


def test_a_process_on_two_gpus_counts_twice_and_most_memory_comes_first() -> None:
    ann, bob = holder("ann", 700, 10), holder("bob", 900, 11)
    view = fleet_of([*node("h1", {0: [ann, bob], 1: [ann]}), *node("h2", {0: []})])

    assert said(view) == [("ann", "1.37 GiB", 2, "h1-0,1"), ("bob", "900 MiB", 1, "h1-0")]


def test_equal_memory_is_ordered_by_processes_and_then_by_name() -> None:
    one, two = [holder("bob", 100)], [holder("ann", 100)]
    three = [holder("eve", 50), holder("eve", 50, 2)]
    view = fleet_of(node("h1", {0: one, 1: two, 2: three}))

    assert [user.user for user in users(view)] == ["eve", "ann", "bob"]


def test_gpus_are_in_numerical_order_over_sorted_hosts() -> None:
    ann = [holder("ann", 1)]
    view = fleet_of([*node("h2", {3: ann}), *node("h1", {2: ann, 10: ann})])

    assert users(view)[0].gpus == "h1-2,10  h2-3"


def test_hosts_are_short_unless_that_would_name_nobody_or_two() -> None:
    ann = [holder("ann", 1)]
    hosts = ("10.0.0.5", "gpu1.lab.org", "gpu2.lab.org", "gpu2.cellar.org", "fe80::1")
    view = fleet_of(
        message
        for number, host in enumerate(hosts)
        for message in node(f"n{number}", {0: ann}, host)
    )

    assert users(view)[0].gpus.split("  ") == [
        "10.0.0.5-0",
        "fe80::1-0",
        "gpu1-0",
        "gpu2.cellar.org-0",
        "gpu2.lab.org-0",
    ]


def test_what_is_on_a_silent_node_is_told_and_not_counted() -> None:
    view = example_fleet()

    assert "dan" not in [user.user for user in users(view)]
    assert not_counted(view) == [
        "cygnus is offline: its last 0 processes not counted",
        "draco is unheard: its last 1 process not counted",
    ]


def test_users_of_what_does_not_exist_are_marked_and_on_no_host() -> None:
    real = list(node("h1", {0: [holder("ann", 1)]}))
    pretended = list(node("sim", {0: [holder("ann", 1)]}))
    (inventory,) = [one for one in pretended if isinstance(one, Inventory)]
    simulated = inventory.model_copy(update={"source": "simulated", "host": "h1"})

    assert users(fleet_of([*real, *pretended, simulated]))[0].gpus == "h1-0  sim-0 (simulated)"


def test_our_runs_and_ignored_programs_are_nobody() -> None:
    monitor = holder("root", 10, ignored="program nvidia-smi")
    view = fleet_of(node("h1", {0: [EXAMPLE.ours(3, "fold-1"), monitor]}))

    assert users(view) == []


def test_a_pid_that_somebody_else_got_is_somebody_elses() -> None:
    before = node("h1", {0: [holder("ann", 100, 7)]})
    after = node("h1", {0: [holder("bob", 200, 7)]})

    assert said(fleet_of([*before, *after])) == [("bob", "200 MiB", 1, "h1-0")]


def test_an_owner_nobody_knows_has_a_row_too() -> None:
    strangers = [holder(None, 100, 7, user_id=None, alive=False), holder(None, 50, 8, user_id=4242)]
    view = fleet_of(node("h1", {0: strangers}))

    assert [user.user for user in users(view)] == ["unknown", "uid 4242"]


def test_memory_that_is_not_known_is_not_zero() -> None:
    view = fleet_of(node("h1", {0: [holder("ann", 700), holder("ann", None), holder("bob", None)]}))

    assert [(user.user, user.memory) for user in users(view)] == [
        ("ann", "≥ 700 MiB"),
        ("bob", "–"),
    ]


def test_the_oldest_process_is_measured_with_its_nodes_clock() -> None:
    ahead = timedelta(hours=3)
    process = holder("ann", 1, started_at=NOW + ahead - timedelta(seconds=90005))
    beat = Beat(node="h1", sequence=1, check_seconds=0.01, at=NOW + ahead)
    view = fleet_of([*node("h1", {0: [process]}, beats=False), beat])

    assert users(view)[0].longest_seconds == 90005
    assert users(view)[0].since == NOW - timedelta(seconds=90005)


def test_amounts_are_binary() -> None:
    assert [amount(number * MIB) for number in (1, 512, 1023, 1024, 1536)] == [
        "1 MiB",
        "512 MiB",
        "1023 MiB",
        "1.00 GiB",
        "1.50 GiB",
    ]


def test_the_table_shows_names_as_text() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(table(example_fleet()))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()

    assert MARKUP in text
    assert "alice" in text
    assert "124.00 GiB" in text
    assert "draco is unheard: its last 1 process not counted" in text


def test_nobody_is_said_and_no_mistake() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(table(fleet_of([])))
    assert isinstance(console.file, io.StringIO)

    assert "nobody uses a GPU" in console.file.getvalue()


def test_programs_get_numbers() -> None:
    view = example_fleet()
    first = json.loads(json.dumps(as_json(view)))["users"][0]

    assert (first["user"], first["memory_used_bytes"]) == ("alice", 124 * GIB)
    assert dict(zip(COLUMNS, rows(view)[0], strict=True))["gpus"] == "atlas-0,1"


def test_who_is_on_an_instance_is_not_counted_on_its_parent_too() -> None:
    messages = list(node("n1", {0: [holder("ann", 700)], 1: [holder("ann", 700)]}))
    (inventory,) = [one for one in messages if isinstance(one, Inventory)]
    parent, part = inventory.gpus
    gpus = (
        parent.model_copy(update={"schedulable": False}),
        part.model_copy(update={"parent": parent.gpu}),
    )
    changed = inventory.model_copy(update={"gpus": gpus})
    view = fleet_of([changed if one is inventory else one for one in messages])

    (ann,) = users(view)
    assert (ann.memory, ann.n_procs, ann.gpus) == ("700 MiB", 1, "n1-1")
