"""`gleaner top`: the fleet live in a terminal; the one module that knows textual."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static

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
from gleaner.cli.now.users import NOTHING_ELSE
from gleaner.cli.now.watch import Line, listening
from gleaner.cli.settings import Settings
from gleaner.names import Called

LOOK_SECONDS = 0.1
"""How often we look whether there is something to draw."""
AGE_SECONDS = 1.0
"""Ages grow without a message."""
REST = 4
"""We rest this many times as long as the last drawing took: 8,000 GPUs leave room for keys."""


async def top(settings: Settings) -> None:
    """Show the fleet until somebody presses q."""
    web = settings.web
    called = Called(nodes=web.display_names, models=web.model_names)
    async with listening(settings) as line:
        await Top(line, called).run_async()


class Details(ModalScreen[None]):
    """Everything about one line, over the table."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,b", "dismiss", "Back"),
    ]
    CSS = """
    Details { align: center middle; }
    #box { width: 90%; height: auto; max-height: 80%; border: round $primary; padding: 0 1; }
    """

    def __init__(self, heading: str, lines: Sequence[str]) -> None:
        super().__init__()
        self._text = Text("\n").join([Text(heading, style="bold"), *map(Text, lines)])

    def compose(self) -> ComposeResult:
        """Put the text into a box that can be scrolled."""
        with VerticalScroll(id="box"):
            yield Static(self._text, id="details")
        yield Footer()


class Top(App[None]):
    """Three pages over one table; drawn when the bus says something, and when time passes."""

    TITLE = "gleaner top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "page('GPUs')", "GPUs"),
        Binding("2", "page('users')", "Users"),
        Binding("3", "page('runs')", "Runs"),
        Binding("b", "details", "Why"),
        Binding("s", "sort", "Sort"),
        Binding("r", "reverse", "Reverse"),
        Binding("slash", "seek", "Filter", key_display="/"),
        Binding("escape", "everything", "All", show=False),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]
    CSS = """
    #summary { height: auto; padding: 0 1; }
    #filter { display: none; border: none; height: 1; }
    #filter.open { display: block; }
    DataTable { height: 1fr; }
    """

    def __init__(self, line: Line, called: Called = NOTHING_ELSE) -> None:
        super().__init__()
        self._line = line
        self._called = called
        self._page = Page.GPUS
        self._column: int | None = None
        self._downwards = True
        self._words = ""
        self._shown: list[Row] = []
        self._widths: list[int] = []
        self._drawn_at = 0.0
        self._drawing_seconds = 0.0

    def compose(self) -> ComposeResult:
        """Lay out: summary, table, filter, keys."""
        yield Static(id="summary")
        yield DataTable[Text](cursor_type="row", zebra_stripes=True)
        yield Input(placeholder="words that must stand in a line; Esc: all", id="filter")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin to draw."""
        self._table.focus()
        self.set_interval(LOOK_SECONDS, self._draw_if_due)

    def on_resize(self, _: Resize) -> None:
        """Give the columns what room there is."""
        self._draw()

    def action_page(self, page: str) -> None:
        """Show another page, in its own order."""
        self._page, self._column, self._downwards = Page(page), None, True
        self._draw(anew=True)

    def action_sort(self) -> None:
        """Sort by the next column that is shown; after the last by none."""
        shown = [index for index, width in enumerate(self._widths) if width]
        later = [index for index in shown if self._column is None or index > self._column]
        self._sort_by(later[0] if later else None)

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._downwards = not self._downwards
        self._draw(anew=True)

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sort by the column that was clicked; again: the other way round."""
        column = int(event.column_key.value or 0)
        if column == self._column:
            self.action_reverse()
        else:
            self._sort_by(column)

    def _sort_by(self, column: int | None) -> None:
        self._column = column
        self._downwards = column is not None and COLUMNS[self._page][column].is_number
        self._draw(anew=True)

    def action_seek(self) -> None:
        """Ask for words."""
        field = self.query_one("#filter", Input)
        field.add_class("open")
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Keep the lines that have the words typed so far."""
        self._words = event.value
        self._draw(anew=True)

    def on_input_submitted(self, _: Input.Submitted) -> None:
        """Go back to the table with the filter on."""
        self._table.focus()

    def action_everything(self) -> None:
        """Forget the words."""
        field = self.query_one("#filter", Input)
        field.value = ""
        field.remove_class("open")
        self._table.focus()

    def action_details(self) -> None:
        """Say why nothing (more) starts on the GPU of this line, or what a run did."""
        if not self._shown:
            return
        key = self._shown[min(self._table.cursor_row, len(self._shown) - 1)].key
        if self._page is Page.USERS:
            self._show_gpus_of(key)
            return
        found = details(self._line.now(), self._page, key)
        if found is not None:
            self.push_screen(Details(*found))

    def on_data_table_row_selected(self, _: DataTable.RowSelected) -> None:
        """Enter does what `b` does."""
        self.action_details()

    def _show_gpus_of(self, user: str) -> None:
        self._page, self._column = Page.GPUS, None
        field = self.query_one("#filter", Input)
        field.add_class("open")
        field.value = user
        self._words = user
        self._draw(anew=True)

    @property
    def _table(self) -> DataTable[Text]:
        # Not of the screen in front: a box with details may stand there.
        return self.screen_stack[0].query_one(DataTable)

    def _draw_if_due(self) -> None:
        passed = time.monotonic() - self._drawn_at
        if passed < REST * self._drawing_seconds:
            return
        if self._line.has_news or passed >= AGE_SECONDS:
            self._draw()

    def _draw(self, *, anew: bool = False) -> None:
        began = time.monotonic()
        self._line.has_news = False
        view = self._line.now()
        lines = summary(view, self._page)
        if self._line.lost_at is not None:
            lines.insert(0, "THE BROKER CANNOT BE REACHED: nothing new is heard")
        said = self.screen_stack[0].query_one("#summary", Static)
        said.update(Text("\n").join(map(Text, lines)))
        found = arrange(
            rows(view, self._page, self._called),
            words=self._words,
            column=self._column,
            downwards=self._downwards,
        )
        # One column is left for the scroll bar.
        room = widths(self._page, self.size.width - 2)
        if anew or room != self._widths or [one.key for one in found] != self._keys():
            self._widths = room
            self._fill(found)
        else:
            self._change(found)
        self._shown = found
        self._drawn_at = time.monotonic()
        self._drawing_seconds = self._drawn_at - began

    def _keys(self) -> list[str]:
        return [row.key for row in self._shown]

    def _fill(self, found: Sequence[Row]) -> None:
        table = self._table
        under_cursor = self._keys()[table.cursor_row : table.cursor_row + 1]
        scrolled = table.scroll_y
        table.clear(columns=True)
        for index, width in enumerate(self._widths):
            if width:
                table.add_column(self._title(index), width=width, key=str(index))
        for row in found:
            table.add_row(*self._cells(row), key=row.key)
        keys = [row.key for row in found]
        if under_cursor and under_cursor[0] in keys:
            table.move_cursor(row=keys.index(under_cursor[0]), scroll=False)
            table.scroll_to(y=scrolled, animate=False)

    def _change(self, found: Sequence[Row]) -> None:
        columns = [str(index) for index, width in enumerate(self._widths) if width]
        for before, after in zip(self._shown, found, strict=True):
            if before.cells == after.cells:
                continue
            old, new = self._cells(before), self._cells(after)
            for column, was, now in zip(columns, old, new, strict=True):
                if was != now or was.style != now.style:
                    self._table.update_cell(after.key, column, now)

    def _title(self, index: int) -> str:
        arrow = ("↓" if self._downwards else "↑") if index == self._column else ""
        return COLUMNS[self._page][index].title + arrow

    def _cells(self, row: Row) -> list[Text]:
        return [
            Text(fit(cell.text, width, keeps_end=column.keeps_end), style=cell.style)
            for cell, column, width in zip(
                row.cells, COLUMNS[self._page], self._widths, strict=True
            )
            if width
        ]
