"""Comma-separated values, as spreadsheets and pandas read them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from gleaner.export import cell


def comma_separated(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with its heading; None is an empty field, and text is nothing to compute."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(value) for value in row] for row in rows)
    return text.getvalue()
