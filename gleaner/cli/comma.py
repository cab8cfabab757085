"""Comma-separated values, as spreadsheets and pandas read them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence


def comma_separated(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table with its heading; None is an empty field, booleans are true and false."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_field(value) for value in row] for row in rows)
    return text.getvalue()


def _field(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value
