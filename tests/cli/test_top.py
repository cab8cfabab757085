"""`gleaner top` as somebody at a terminal of 80 columns uses it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.message import Message
from gleaner.cli.now.top import Details, Top
from gleaner.cli.now.watch import Line
from tests.builders import NOW, until
from tests.web.example import MARKUP, Example

EXAMPLE = Example(NOW)


class Terminal:
    """The program at a terminal, and the fleet it watches."""

    def __init__(self, app: Top, pilot: Pilot[None], fleet: MemoryBus, own: MemoryBus) -> None:
        self.app = app
        self.pilot = pilot
        self.own = own
        self._fleet = fleet

    def say(self, messages: Iterable[Message]) -> None:
        """Publish what a fleet says."""
        for message in messages:
            self._fleet.publish(message)

    @property
    def table(self) -> DataTable[object]:
        """The table, also while a box stands before it."""
        return self.app.screen_stack[0].query_one(DataTable)

    @property
    def summary(self) -> str:
        """The lines above the table."""
        return str(self.app.screen_stack[0].query_one("#summary", Static).content)

    def lines(self) -> dict[str, list[str]]:
        """The cells of each line by the first of them."""
        found = [
            [str(cell) for cell in self.table.get_row_at(row)]
            for row in range(self.table.row_count)
        ]
        return {cells[0]: cells for cells in found}


class Clock:
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@asynccontextmanager
async def terminal(clock: Clock | None = None, width: int = 80) -> AsyncIterator[Terminal]:
    """The program with the example fleet on its bus."""
    broker = MemoryBroker()
    async with MemoryBus(broker, "fleet") as fleet, MemoryBus(broker) as own:
        app = Top(Line(own, clock or Clock()))
        async with app.run_test(size=(width, 24)) as pilot:
            shown = Terminal(app, pilot, fleet, own)
            shown.say([*EXAMPLE.messages(), *EXAMPLE.beats()])
            await until(lambda: "atlas:0" in shown.lines())
            await until(lambda: "busy" in shown.lines()["atlas:0"])
            yield shown


async def test_gpus_are_shown_with_their_states_as_words_at_80_columns() -> None:
    async with terminal() as shown:
        await until(lambda: len(shown.lines()) == 23)

        assert shown.lines()["atlas:0"][:5] == ["atlas:0", "busy", "2 h 00", "97 %", "62.4/80 GiB"]
        assert shown.lines()["draco:0"][1] == "unknown"
        assert shown.lines()["sim-0:1"][-1].startswith("simulated")
        assert shown.table.virtual_size.width <= 80


async def test_a_wide_terminal_shows_models_too() -> None:
    async with terminal(width=160) as shown:
        assert shown.lines()["atlas:0"][1] == "H100 80GB HBM3"


async def test_what_the_bus_says_is_shown_without_a_key() -> None:
    async with terminal() as shown:
        shown.say([EXAMPLE.state("atlas", 4, "busy", "eve computes (pid 5)", seconds=1)])

        await until(lambda: shown.lines()["atlas:4"][1] == "busy")
        assert shown.lines()["atlas:4"][-1].startswith("eve computes")


async def test_a_fleet_that_falls_silent_is_shown_as_stale_with_its_age() -> None:
    clock = Clock()
    async with terminal(clock, width=120) as shown:
        clock.now += timedelta(seconds=30)

        await until(lambda: shown.lines()["atlas:0"][2] == "unknown")
        assert shown.lines()["atlas:0"][-1] == "node is stale, last heard 30 s ago"
        assert "0 of 6 nodes online" in shown.summary


async def test_a_lost_broker_is_said_at_once() -> None:
    async with terminal() as shown:
        shown.own.disconnect()

        await until(lambda: "THE BROKER CANNOT BE REACHED" in shown.summary)


async def test_users_and_runs_are_one_key_away() -> None:
    async with terminal() as shown:
        await shown.pilot.press("2")
        assert shown.lines()["alice"][1:3] == ["124.00 GiB", "2"]
        assert MARKUP[:17] + "…" in shown.lines()

        await shown.pilot.press("3")
        states = {str(cells[1]) for cells in shown.lines().values()}
        assert states <= {"running", "evicted"}

        await shown.pilot.press("1")
        assert "atlas:0" in shown.lines()


async def test_typed_words_filter_and_escape_brings_everything_back() -> None:
    async with terminal() as shown:
        await until(lambda: len(shown.lines()) == 23)
        await shown.pilot.press("slash", *"bob", "enter")
        assert set(shown.lines()) == {"atlas:5"}

        await shown.pilot.press("escape")
        await until(lambda: len(shown.lines()) == 23)


async def test_columns_are_sorted_one_after_the_other_and_turned_round() -> None:
    async with terminal() as shown:
        await until(lambda: len(shown.lines()) == 23)
        await shown.pilot.press("s", "s", "s", "s")
        assert [str(column.label) for column in shown.table.ordered_columns][3] == "Use↓"
        assert next(iter(shown.lines())) == "atlas:2"

        await shown.pilot.press("r")
        assert shown.lines().popitem()[1][3] == "–"


async def test_one_key_says_why_nothing_starts_on_a_gpu() -> None:
    async with terminal() as shown:
        await until(lambda: len(shown.lines()) == 23)
        await shown.pilot.press("down", "down", "down", "down", "b")
        assert isinstance(shown.app.screen, Details)
        said = str(shown.app.screen.query_one("#details", Static).content)
        assert said.startswith("atlas:4 (GPU-atlas-0004)")
        assert "- idle for 24 of 60 s" in said

        await shown.pilot.press("escape")
        assert not isinstance(shown.app.screen, Details)


async def test_the_line_under_the_cursor_stays_there_when_others_come() -> None:
    async with terminal() as shown:
        await until(lambda: len(shown.lines()) == 23)
        await shown.pilot.press("down", "down")
        shown.say(
            [
                EXAMPLE.online("aaa"),
                EXAMPLE.state("aaa", 0, "idle", "", seconds=1),
                EXAMPLE.beat("aaa"),
            ]
        )

        await until(lambda: "aaa:0" in shown.lines())
        assert str(shown.table.get_row_at(shown.table.cursor_row)[0]) == "atlas:2"


async def test_a_user_leads_to_the_gpus_that_are_used() -> None:
    async with terminal() as shown:
        await until(lambda: len(shown.lines()) == 23)
        await shown.pilot.press("2", "enter")

        assert set(shown.lines()) == {"atlas:0", "atlas:1"}


def test_a_terminal_is_wanted() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gleaner.cli", "top"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "`gleaner top` needs a terminal; `gleaner status` writes anywhere\n"


@pytest.mark.parametrize("key", ["enter", "b", "s", "r"])
async def test_keys_do_no_harm_where_nothing_is_known(key: str) -> None:
    bus = MemoryBus(MemoryBroker())
    async with bus, Top(Line(bus, Clock())).run_test(size=(80, 24)) as pilot:
        await pilot.press("2", key, "3", key, "1", key)

        assert pilot.app.is_running


async def test_words_are_sorted_from_a_and_a_click_turns_them_round() -> None:
    async with terminal() as shown:
        await until(lambda: len(shown.lines()) == 23)
        await shown.pilot.press("s", "s")
        assert [str(column.label) for column in shown.table.ordered_columns][1] == "State↑"
        assert next(iter(shown.lines().values()))[1] == "busy"

        await shown.pilot.click(DataTable, offset=(20, 0))
        assert [str(column.label) for column in shown.table.ordered_columns][1] == "State↓"


async def test_ctrl_c_ends_it() -> None:
    async with terminal() as shown:
        await shown.pilot.press("ctrl+c")

        await until(lambda: not shown.app.is_running)
