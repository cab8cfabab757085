"""Tables as CSV and JSON: a page of rows goes in, its bytes come out, nothing is kept."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gleaner.export.columns import Column, Row, plain


class Encoder(Protocol):
    """Turns pages of rows into one file."""

    def begin(self) -> bytes:
        """Return what stands before the first row."""
        ...

    def page(self, rows: Sequence[Row]) -> bytes:
        """Return some rows."""
        ...

    def end(self) -> bytes:
        """Return what stands behind the last row."""
        ...


def as_text(value: Any) -> Any:
    """Return a value as a field of text: JSON for what has parts, words for booleans."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return value


def csv_with(names: Sequence[str]) -> Encoder:
    """Return what writes rows with these fields as CSV."""
    return Csv(plain("text", *names))


class Csv:
    """A heading, and a line for each row."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns

    def begin(self) -> bytes:
        """Return the heading."""
        return self._lines([[column.name for column in self._columns]])

    def page(self, rows: Sequence[Row]) -> bytes:
        """Return some lines."""
        return self._lines([[cell(one.of(row)) for one in self._columns] for row in rows])

    def end(self) -> bytes:
        """Return nothing: a table just ends."""
        return b""

    def _lines(self, rows: Sequence[Sequence[Any]]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue().encode("utf-8", "replace")


def cell(value: Any) -> Any:
    """Return what stands in a cell; text that a spreadsheet would compute stays text."""
    # CSV injection: a user may be called `=HYPERLINK(…)`.
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return as_text(value)


class Json:
    """One array, one row a line."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._before = "\n"

    def begin(self) -> bytes:
        """Return the beginning of an array."""
        return b"["

    def page(self, rows: Sequence[Row]) -> bytes:
        """Return some objects."""
        parts = []
        for row in rows:
            shown = {one.name: one.of(row) for one in self._columns}
            parts.append(self._before + json.dumps(shown, ensure_ascii=False))
            self._before = ",\n"
        return "".join(parts).encode("utf-8", "replace")

    def end(self) -> bytes:
        """Return the end of the array."""
        return b"\n]\n"
