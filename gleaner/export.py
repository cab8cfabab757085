"""History as tables for other programs: which columns there are, and rows as CSV, JSON, Parquet.

Made for streams: a page of rows goes in, its bytes come out, nothing is kept. Units stand in the
names of columns. What has parts (`users`, `data`, `gpus`) is JSON, as text in CSV and Parquet.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from gleaner.bus.messages import HistoryAnswer

What = Literal["sessions", "samples", "host_samples", "events", "runs"]
Format = Literal["csv", "json", "parquet"]
Kind = Literal["text", "instant", "whole", "number", "flag", "json"]
Row = Mapping[str, Any]
Ask = Callable[[str | None], Awaitable[HistoryAnswer]]
"""Asks for the page that a cursor stands for; raises if there is no answer."""

WHATS: tuple[What, ...] = get_args(What)
FORMATS: tuple[Format, ...] = get_args(Format)
MEDIA_TYPES: Mapping[Format, str] = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}
PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 1.0


class NoParquet(Exception):
    """What writes Parquet is not installed; the text says what to do."""


class Incomplete(Exception):
    """There was no answer for a later page: what was written so far is not all."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its name with the unit, and where it comes from."""

    name: str
    kind: Kind
    of: Callable[[Row], Any]


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


def _columns(kind: Kind, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name=name, kind=kind, of=_field(name)) for name in names)


def _field(name: str) -> Callable[[Row], Any]:
    return lambda row: row.get(name)


def _renamed(kind: Kind, **names: str) -> tuple[Column, ...]:
    return tuple(Column(name=new, kind=kind, of=_field(old)) for new, old in names.items())


def _mean_utilization(row: Row) -> float | None:
    seconds = row.get("utilization_seconds")
    return row["utilization_sum"] / seconds if seconds else None


COLUMNS: Mapping[What, tuple[Column, ...]] = {
    "sessions": (
        *_columns("text", "node", "gpu", "user", "entry", "container"),
        *_columns("instant", "begin", "end"),
        *_renamed("number", gpu_seconds="seconds"),
        *_columns("number", "busy_seconds", "held_seconds", "shared_seconds"),
        Column(name="utilization_mean_percent", kind="number", of=_mean_utilization),
        *_renamed("number", utilization_max_percent="utilization_max"),
        *_columns("number", "memory_byte_seconds", "memory_max_bytes", "energy_joules"),
        *_renamed("number", sample_interval_seconds="interval"),
    ),
    "samples": (
        *_columns("text", "node", "gpu"),
        *_columns("instant", "at"),
        *_columns("number", "seconds"),
        *_columns("text", "state"),
        *_columns("number", "utilization_percent", "memory_utilization_percent"),
        *_columns("whole", "memory_used_bytes"),
        *_columns("number", "temperature_celsius", "power_watts", "energy_joules"),
        *_columns("number", "energy_used_joules", "sm_clock_mhz", "fan_percent"),
        *_columns("json", "users"),
        *_columns("flag", "schedulable"),
    ),
    "host_samples": (
        *_columns("text", "node"),
        *_columns("instant", "at"),
        *_columns("number", "seconds", "cpu_percent", "load_1_minute"),
        *_columns("whole", "memory_used_bytes"),
        *_columns("number", "network_received_bytes_per_second"),
        *_columns("number", "network_sent_bytes_per_second", "disk_used_percent"),
    ),
    "events": (
        *_columns("text", "node", "stream"),
        *_columns("whole", "sequence"),
        *_columns("text", "kind", "gpu"),
        *_columns("instant", "at", "received_at"),
        *_columns("text", "boot_id"),
        *_columns("json", "data"),
    ),
    "runs": (
        *_columns("text", "node", "run", "entry"),
        *_columns("json", "gpus"),
        *_columns("text", "user", "state"),
        *_columns("flag", "is_final"),
        *_columns("text", "reason"),
        *_columns("instant", "first_at", "at", "started_at", "ended_at"),
        *_columns("text", "cause_kind", "cause_text"),
        *_columns("whole", "exit_code", "exit_signal"),
        *_columns("number", "noticed_to_term_seconds", "term_to_exit_seconds"),
        *_columns("number", "exit_to_clear_seconds", "noticed_to_clear_seconds"),
        *_columns("flag", "simulated"),
    ),
}


def asked_of(what: What) -> dict[str, Any]:
    """Return what a `HistoryQuery` has to say to be about a table."""
    return {"what": "samples", "of": "host"} if what == "host_samples" else {"what": what}


def encoder(what: What, form: Format) -> Encoder:
    """Return what writes a table; raise NoParquet where that is not installed."""
    columns = COLUMNS[what]
    match form:
        case "csv":
            return Csv(columns)
        case "json":
            return _Json(columns)
        case "parquet":
            try:
                from gleaner.parquet import Parquet
            except ModuleNotFoundError as error:
                if error.name != "pyarrow":
                    raise
                raise NoParquet(
                    "Parquet needs pyarrow: pip install 'gleaner[parquet]'; "
                    "CSV and JSON need nothing"
                ) from error
            return Parquet(columns)


async def pages(
    ask: Ask, unanswered: type[Exception], refused: type[Exception]
) -> AsyncGenerator[Sequence[Row], None]:
    """Yield the pages of an answer; each is asked for again while a recorder restarts.

    The first page raises at once what is refused, and in the end `unanswered`. A later one raises
    Incomplete: what was answered before is refused only for a while. So does an answer that has
    not all, since the recorder cannot search all of it just now.
    """
    cursor: str | None = None
    clock = asyncio.get_running_loop().time
    rows = 0
    while True:
        until = clock() + PATIENCE_SECONDS
        while True:
            try:
                answer = await ask(cursor)
                break
            except (unanswered, refused) as error:
                if cursor is None and not isinstance(error, unanswered):
                    raise
                if clock() >= until:
                    if cursor is None:
                        raise unanswered(f"{error} (waited {PATIENCE_SECONDS:g} s)") from error
                    raise Incomplete(f"after {rows} rows: {error}") from error
                await asyncio.sleep(PAUSE_SECONDS)
        if answer.looked_back_to is not None:
            missing = (
                f"what is older than {answer.looked_back_to:%Y-%m-%dT%H:%M:%S}Z is being indexed "
                "after an update of the recorder; ask again later, or only for what came since"
            )
            raise (unanswered if cursor is None else Incomplete)(missing)
        rows += len(answer.rows)
        yield answer.rows
        cursor = answer.cursor
        if cursor is None:
            return


def as_text(value: Any) -> Any:
    """Return a value as a field of text: JSON for what has parts, words for booleans."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return value


def csv_with(names: Sequence[str]) -> Encoder:
    """Return what writes rows with these fields as CSV."""
    return Csv(_columns("text", *names))


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


class _Json:
    """One array, one row a line."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._before = "\n"

    def begin(self) -> bytes:
        return b"["

    def page(self, rows: Sequence[Row]) -> bytes:
        parts = []
        for row in rows:
            shown = {one.name: one.of(row) for one in self._columns}
            parts.append(self._before + json.dumps(shown, ensure_ascii=False))
            self._before = ",\n"
        return "".join(parts).encode("utf-8", "replace")

    def end(self) -> bytes:
        return b"\n]\n"
