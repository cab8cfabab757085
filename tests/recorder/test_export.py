"""`gleaner export data` and a real recorder: every row once, or no file at all."""

from __future__ import annotations

import asyncio
import csv
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gleaner import export
from gleaner.bus.connection import Connection
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.messages import HistoryAnswer, HistoryQuery
from gleaner.cli.history import export_data
from gleaner.cli.history.export_data import Wish, export_from, format_of
from gleaner.client import Client, RequestFailed
from gleaner.export import COLUMNS, WHATS, Incomplete, encoder, paging
from services.recorder.store import Store
from services.recorder.upkeep.retention import Retention
from tests.builders import NOW
from tests.recorder.builders import a_run, an_event, numbers, recording, url
from tests.recorder.test_month import INTERVAL, START, a_sample, event, record, settle

SAMPLES, PAGE = 350, 300
LONG = timedelta(days=36500)
FOR_EVER = Retention(samples=LONG, events=LONG, five_minutes=LONG, hours=LONG)


pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than a page of samples, and some of everything."""
    folder = tmp_path_factory.mktemp("export")
    samples = [a_sample(START + INTERVAL * n) for n in range(1, SAMPLES + 1)]

    async def fill() -> None:
        async with Store(url(folder)) as store:
            await record(store, [event(1, samples)], NOW)
            await settle(store, NOW)
            told = (
                a_run(1, "running", run="r1"),
                a_run(2, "evicted", 5, run="r2", stages={"noticed_to_term": 0.002}),
                an_event(3, data={"text": 'a,"b"\nc', "list": [1, None]}),
                an_event(4, node="n2"),
            )
            await store.write(numbers(*told), now=NOW)

    asyncio.run(fill())
    return folder


@pytest.fixture
async def client(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """A client of a recorder that has all that, in small pages."""
    monkeypatch.setattr(export_data, "PAGE_ROWS", PAGE)
    broker = MemoryBroker()
    bus = MemoryBus(broker, "recorder", "main")
    async with (
        Store(url(recorded)) as store,
        recording(bus, store, FOR_EVER),
        bus,
        a_client(broker) as client,
    ):
        yield client


@asynccontextmanager
async def a_client(broker: MemoryBroker) -> AsyncIterator[Client]:
    bus = MemoryBus(broker)
    async with Client(Connection(url="mqtt://none"), "cli", bus=bus) as client, bus:
        yield client


async def table(client: Client, file: Path, **wish: Any) -> list[dict[str, Any]]:
    form = format_of(str(file), None)
    count = await export_from(client, str(file), Wish(form=form, **wish))
    match form:
        case "csv":
            with file.open(newline="") as lines:
                rows = list(csv.DictReader(lines))
        case "json":
            rows = json.loads(file.read_text())
        case "parquet":
            import pyarrow.parquet

            rows = pyarrow.parquet.read_table(file).to_pylist()
    assert len(rows) == count
    return rows


async def test_every_sample_comes_once_in_every_format(client: Client, tmp_path: Path) -> None:
    as_csv = await table(client, tmp_path / "a.csv", what="samples")
    as_json = await table(client, tmp_path / "a.json", what="samples")
    as_parquet = await table(client, tmp_path / "a.parquet", what="samples")

    assert len({row["at"] for row in as_csv}) == SAMPLES
    for text, whole, typed in zip(as_csv, as_json, as_parquet, strict=True):
        assert text["at"] == whole["at"]
        assert typed["at"] == datetime.fromisoformat(whole["at"])
        assert float(text["utilization_percent"]) == whole["utilization_percent"]
        assert typed["utilization_percent"] == whole["utilization_percent"]
        assert text["temperature_celsius"] == ""
        assert whole["temperature_celsius"] is typed["temperature_celsius"] is None
        assert json.loads(text["users"]) == whole["users"] == json.loads(typed["users"])


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
async def test_units_stand_in_the_names(client: Client, tmp_path: Path, suffix: str) -> None:
    for what in WHATS:
        rows = await table(client, tmp_path / f"{what}.{suffix}", what=what)

        assert [*rows[0]] == [column.name for column in COLUMNS[what]]


async def test_a_session_says_who_used_what(client: Client, tmp_path: Path) -> None:
    rows = await table(client, tmp_path / "a.json", what="sessions", user="alice")

    assert {row["user"] for row in rows} == {"alice"}
    first = rows[-1]
    assert first["begin"] == "2026-03-01T08:00:00Z"
    # Four hours at 60 %, then two that she only holds it.
    assert first["utilization_mean_percent"] == pytest.approx(40)
    assert first["utilization_max_percent"] == 60
    assert first["gpu_seconds"] == first["busy_seconds"] + first["held_seconds"]


async def test_only_what_was_asked_for_comes(client: Client, tmp_path: Path) -> None:
    since, until = START + timedelta(hours=1), START + timedelta(hours=2)
    hour = await table(client, tmp_path / "a.csv", what="samples", since=since, until=until)
    other = await table(client, tmp_path / "b.csv", what="events", node="n2")

    assert len(hour) == 24
    assert [row["node"] for row in other] == ["n2"]


async def test_text_stays_text(client: Client, tmp_path: Path) -> None:
    rows = await table(client, tmp_path / "a.csv", what="events", node="n1")

    said = next(row for row in rows if row["sequence"] == "3")
    assert json.loads(said["data"]) == {"text": 'a,"b"\nc', "list": [1, None]}


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
async def test_where_there_is_nothing_the_columns_are_there(
    client: Client, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"a.{suffix}"

    assert await table(client, file, what="runs", node="n2") == []
    assert suffix == "json" or b"noticed_to_term_seconds" in file.read_bytes()


async def test_what_makes_no_sense_is_refused_and_leaves_no_file(
    client: Client, tmp_path: Path
) -> None:
    with pytest.raises(RequestFailed, match="user goes with sessions"):
        await table(client, tmp_path / "a.csv", what="samples", user="alice")

    assert list(tmp_path.glob("*.csv")) == []


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
async def test_nothing_comes_out_before_there_is_an_answer(
    client: Client, capfdbinary: pytest.CaptureFixture[bytes], form: export.Format
) -> None:
    with pytest.raises(RequestFailed, match="no node named 'nobody'"):
        await export_from(client, "-", Wish(what="events", form=form, node="nobody"))

    assert capfdbinary.readouterr() == (b"", b"")


async def test_a_name_may_be_as_long_as_a_name_can_be(client: Client, tmp_path: Path) -> None:
    file = tmp_path / f"{'x' * 251}.csv"

    assert await export_from(client, str(file), Wish(what="events", form="csv"))
    assert [*tmp_path.iterdir()] == [file]


class Forgetful:
    """A recorder that goes away after the first page, and may come back."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.bus = MemoryBus(broker, "recorder", "main")
        self.bus.subscribe(HistoryQuery, lambda one: self.answer(one.message))
        self.asked = 0
        self.silent_for = 10**9
        self.answers_first = True
        self.looked_back_to: datetime | None = None

    def answer(self, query: Any) -> None:
        self.asked += 1
        cursor = "more" if query.cursor is None else None
        waits = query.cursor is not None or not self.answers_first
        if waits and self.asked <= self.answers_first + self.silent_for:
            return
        self.bus.publish(
            HistoryAnswer(
                client=query.client,
                id=query.id,
                rows=({"node": "n1", "sequence": self.asked},),
                cursor=cursor,
                looked_back_to=None if cursor else self.looked_back_to,
            )
        )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "PAUSE_SECONDS", 0.01)
    ask = Client.page
    monkeypatch.setattr(Client, "page", lambda self, query: ask(self, query, 0.05))


async def test_a_recorder_that_goes_away_leaves_no_short_file(
    tmp_path: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PATIENCE_SECONDS", 0.1)
    broker, file = MemoryBroker(), tmp_path / "a.csv"
    file.write_text("what was there")
    recorder = Forgetful(broker)
    async with recorder.bus, a_client(broker) as client:
        with pytest.raises(Incomplete, match=r"after 1 rows: the recorder did not answer"):
            await export_from(client, str(file), Wish(what="events", form="csv"))

    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert file.read_text() == "what was there"


async def test_a_recorder_that_restarts_is_waited_for(tmp_path: Path, impatient: None) -> None:
    broker, file = MemoryBroker(), tmp_path / "a.csv"
    recorder = Forgetful(broker)
    recorder.silent_for = 3
    async with recorder.bus, a_client(broker) as client:
        assert await export_from(client, str(file), Wish(what="events", form="csv")) == 2

    assert len(file.read_text().splitlines()) == 3


async def test_what_cannot_all_be_searched_just_now_is_no_file(tmp_path: Path) -> None:
    broker, file = MemoryBroker(), tmp_path / "a.csv"
    recorder = Forgetful(broker)
    recorder.silent_for, recorder.looked_back_to = 0, NOW
    async with recorder.bus, a_client(broker) as client:
        with pytest.raises(Incomplete, match="older than 2026-11-21T12:00:00Z is being indexed"):
            await export_from(client, str(file), Wish(what="events", form="csv", user="ann"))

    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(("silent_for", "rows"), [(3, 2), (10**9, None)])
async def test_a_recorder_that_is_away_at_first_is_waited_for_as_long(
    tmp_path: Path,
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
    silent_for: int,
    rows: int | None,
) -> None:
    broker, wish = MemoryBroker(), Wish(what="events", form="csv")
    recorder = Forgetful(broker)
    recorder.answers_first, recorder.silent_for = False, silent_for
    file = str(tmp_path / "a.csv")
    async with recorder.bus, a_client(broker) as client:
        if rows is not None:
            assert await export_from(client, file, wish) == rows
        else:
            monkeypatch.setattr(paging, "PATIENCE_SECONDS", 0.1)
            with pytest.raises(RequestFailed, match=r"did not answer .* \(waited 0\.1 s\)"):
                await export_from(client, file, wish)
            assert [*tmp_path.iterdir()] == []


async def test_a_pipe_is_written_to_and_not_replaced(client: Client, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # Both ends, so that neither open waits for the other.
    with open(os.open(pipe, os.O_RDWR), "rb", buffering=0) as end:
        await export_from(client, str(pipe), Wish(what="runs", form="csv"))

        assert end.read(1000).startswith(b"node,run,entry")
    assert pipe.is_fifo()


def test_parquet_is_whole_in_groups_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet

    monkeypatch.setattr("gleaner.export.parquet.ROWS", 10)
    writer = encoder("events", "parquet")
    rows = [{"node": "n1", "sequence": n, "at": NOW.isoformat(), "data": {}} for n in range(35)]
    parts = [writer.begin(), *(writer.page(rows[n : n + 7]) for n in range(0, 35, 7)), writer.end()]
    (tmp_path / "a.parquet").write_bytes(b"".join(parts))

    file = pyarrow.parquet.ParquetFile(tmp_path / "a.parquet")
    assert file.num_row_groups == 3
    assert file.read().column("sequence").to_pylist() == [*range(35)]


def test_the_format_is_that_of_the_name_unless_it_is_given() -> None:
    found = [format_of(name, None) for name in ("a.json", "b.PARQUET", "c.csv", "d", "-")]

    assert found == ["json", "parquet", "csv", "csv", "csv"]
    assert format_of("a.json", "csv") == format_of("a.xlsx", "csv") == "csv"
    with pytest.raises(ValueError, match=r"a\.xlsx does not say which: it is one of csv, json"):
        format_of("a.xlsx", None)
    assert export_data.PAGE_ROWS == 1000
