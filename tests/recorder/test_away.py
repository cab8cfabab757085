"""A server that is not there yet, that goes away, or that somebody else writes to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.messages import HistoryAnswer, Recorded, RecorderState
from gleaner.cli.machine.broker import free_port
from gleaner.runtime import Fatal
from services.recorder import service
from services.recorder.schema import tables
from services.recorder.service import Recorder
from services.recorder.storage.lock import InUse
from services.recorder.store import Store
from services.recorder.upkeep.tidy import Tidying
from tests.builders import until
from tests.postgres import Postgres
from tests.recorder.builders import KEEP, an_event, count, recording, url
from tests.recorder.test_history import a_query

on_a_server = pytest.mark.real


class Listener:
    """What a node hears of the recorder."""

    def __init__(self, node: MemoryBus) -> None:
        self.watermark = 0
        self.states: list[RecorderState] = []
        self.answers: list[HistoryAnswer] = []
        node.subscribe(Recorded, lambda one: self._take(one.message))
        node.subscribe(RecorderState, lambda one: self._take(one.message))
        node.subscribe(HistoryAnswer, lambda one: self._take(one.message))

    def _take(self, message: object) -> None:
        match message:
            case Recorded(streams=streams):
                self.watermark = streams.get("s1", 0)
            case RecorderState() as state:
                self.states.append(state)
            case HistoryAnswer() as answer:
                self.answers.append(answer)

    @property
    def problem(self) -> str | None:
        """Why nothing is recorded, as said last."""
        return self.states[-1].problem if self.states else None


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RETRY_SECONDS", (0.05, 0.1))
    monkeypatch.setattr(service, "WATERMARK_SECONDS", 0.01)


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """A server that a test may stop."""
    with Postgres() as server:
        yield server


@asynccontextmanager
async def closed_at_the_end(store: Store) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await store.close()


async def test_a_server_that_is_not_there_is_told_of_in_words() -> None:
    broker, store = MemoryBroker(), Store(f"postgresql://nobody@127.0.0.1:{free_port()}/gleaner")
    async with closed_at_the_end(store), MemoryBus(broker, "node", "n1") as node:
        heard = Listener(node)
        bus = MemoryBus(broker, "recorder", "main")
        async with recording(bus, store), bus:
            await until(lambda: heard.problem is not None)

    assert heard.problem is not None
    assert "it cannot be reached" in heard.problem
    assert "Errno" not in heard.problem


@on_a_server
@pytest.mark.timeout(180)
async def test_a_server_that_comes_late_and_goes_away_loses_nothing(
    own_server: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    broker, store = MemoryBroker(), Store(own_server.database("gleaner"))
    own_server.stop()
    async with closed_at_the_end(store), MemoryBus(broker, "node", "n1") as node:
        heard = Listener(node)
        bus = MemoryBus(broker, "recorder", "main")
        async with recording(bus, store), bus:
            node.publish(an_event(1))
            await until(lambda: heard.problem is not None)
            assert store.name in str(heard.problem)
            assert "events wait at the nodes" in caplog.text

            own_server.start()
            await until(lambda: heard.watermark == 1)
            assert heard.problem is None

            own_server.stop()
            for number in range(2, 60):
                node.publish(an_event(number))
            await until(lambda: heard.problem is not None)
            assert heard.watermark == 1

            own_server.start()
            await until(lambda: heard.watermark == 59)
            await until(lambda: heard.problem is None)
            assert await count(store, tables.event) == 59
            assert await count(store, tables.dead_letter) == 0
            errors = [one for one in caplog.records if one.levelname == "ERROR"]
            # Each time once, and once more where it says that it is starting up.
            assert 2 <= len(errors) <= 4


@on_a_server
async def test_a_question_while_the_server_is_away_is_answered_so(own_server: Postgres) -> None:
    broker, store = MemoryBroker(), Store(own_server.database("gleaner"))
    own_server.stop()
    async with closed_at_the_end(store), MemoryBus(broker, "node", "n1") as node:
        heard = Listener(node)
        bus = MemoryBus(broker, "recorder", "main")
        async with recording(bus, store), bus:
            later = an_event().at.replace(year=2100)
            node.publish(a_query().model_copy(update={"expires_at": later}))

            await until(lambda: bool(heard.answers))
    assert "history cannot be read" in str(heard.answers[0].error)


@on_a_server
async def test_two_recorders_do_not_write_to_one_server_database(postgres: Postgres) -> None:
    where = postgres.database("shared")
    async with Store(where):
        with pytest.raises(InUse, match="another process writes to it"):
            await Store(where).open()
    async with Store(where):
        pass


async def test_two_recorders_do_not_write_to_one_file(tmp_path: Path) -> None:
    async with Store(url(tmp_path)):
        with pytest.raises(InUse, match=r"another process \(pid \d+\) writes to it"):
            await Store(url(tmp_path)).open()
    async with Store(url(tmp_path)):
        pass


@on_a_server
async def test_a_server_whose_database_is_newer_ends_the_recorder(own_server: Postgres) -> None:
    where = own_server.database("newer")
    async with Store(where):
        pass
    own_server.sql("UPDATE alembic_version SET version_num = '9999'", own_server.name("newer"))
    store = Store(where)
    recorder = Recorder(MemoryBus(MemoryBroker()), store, Tidying(store, KEEP))

    with pytest.RaisesGroup(pytest.RaisesExc(Fatal, match="written by a newer version")):
        await recorder.run()
