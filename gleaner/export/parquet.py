"""Parquet by pyarrow, imported only where somebody asks for it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow
import pyarrow.parquet

from gleaner.export.columns import Column, Kind, Row
from gleaner.export.text import as_text

ROWS = 50_000
"""In one group; a reader loads a group of a column at a time."""
_TYPES: dict[Kind, Any] = {
    "text": pyarrow.string(),
    "instant": pyarrow.timestamp("us", tz="UTC"),
    "whole": pyarrow.int64(),
    "number": pyarrow.float64(),
    "flag": pyarrow.bool_(),
    "json": pyarrow.string(),
}


class Parquet:
    """Rows as Parquet; some thousands are kept, until they are a group."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._schema = pyarrow.schema([(one.name, _TYPES[one.kind]) for one in columns])
        self._sink = _Sink()
        self._writer: Any = None
        self._rows: list[Row] = []

    def begin(self) -> bytes:
        """See `Encoder`."""
        self._writer = pyarrow.parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        return self._sink.taken()

    def page(self, rows: Sequence[Row]) -> bytes:
        """See `Encoder`."""
        self._rows += rows
        if len(self._rows) >= ROWS:
            self._write()
        return self._sink.taken()

    def end(self) -> bytes:
        """See `Encoder`."""
        if self._rows:
            self._write()
        self._writer.close()
        return self._sink.taken()

    def _write(self) -> None:
        values = [[_value(one, row) for row in self._rows] for one in self._columns]
        arrays = [
            pyarrow.array(column, _TYPES[one.kind])
            for one, column in zip(self._columns, values, strict=True)
        ]
        self._writer.write_table(pyarrow.Table.from_arrays(arrays, schema=self._schema))
        self._rows = []


class _Sink(io.RawIOBase):
    """Takes what is written, knows how far it is, and gives it on."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._at += len(part)
        return len(part)

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _value(column: Column, row: Row) -> Any:
    value = column.of(row)
    if value is None:
        return None
    match column.kind:
        case "instant":
            return datetime.fromisoformat(value)
        case "json":
            return as_text(value)
        case "number":
            return float(value)
        case _:
            return value
