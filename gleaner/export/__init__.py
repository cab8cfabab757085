"""History as tables for other programs: which columns there are, and rows as CSV, JSON, Parquet.

Made for streams: a page of rows goes in, its bytes come out, nothing is kept. Units stand in the
names of columns. What has parts (`users`, `data`, `gpus`) is JSON, as text in CSV and Parquet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from gleaner.export.columns import COLUMNS, WHATS, Row, What, asked_of
from gleaner.export.paging import Ask, Incomplete, pages
from gleaner.export.text import Csv, Encoder, Json, cell, csv_with

__all__ = [
    "COLUMNS",
    "FORMATS",
    "MEDIA_TYPES",
    "WHATS",
    "Ask",
    "Encoder",
    "Format",
    "Incomplete",
    "NoParquet",
    "Row",
    "What",
    "asked_of",
    "cell",
    "csv_with",
    "encoder",
    "pages",
]

Format = Literal["csv", "json", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
MEDIA_TYPES: Mapping[Format, str] = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}


class NoParquet(Exception):
    """What writes Parquet is not installed; the text says what to do."""


def encoder(what: What, form: Format) -> Encoder:
    """Return what writes a table; raise NoParquet where that is not installed."""
    columns = COLUMNS[what]
    match form:
        case "csv":
            return Csv(columns)
        case "json":
            return Json(columns)
        case "parquet":
            try:
                from gleaner.export.parquet import Parquet
            except ModuleNotFoundError as error:
                if error.name != "pyarrow":
                    raise
                raise NoParquet(
                    "Parquet needs pyarrow: pip install 'gleaner[parquet]'; "
                    "CSV and JSON need nothing"
                ) from error
            return Parquet(columns)
