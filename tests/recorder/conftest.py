"""SQLite and PostgreSQL alike: what needs a database runs on both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from services.recorder.accounts import accounting
from services.recorder.store import Store
from tests.postgres import Postgres
from tests.recorder import builders
from tests.recorder.two_days import two_days

ON_BOTH = (
    "test_store",
    "test_history",
    "test_hosts",
    "test_search",
    "test_unknown",
    "test_accounting",
    "test_answers",
    "test_by_time",
    "test_figures",
    "test_last_hour",
    "test_local_time",
    "test_mig",
    "test_month",
    "test_rogue",
    "test_tidy",
    "test_hours",
)
"""Their tests that make a database; those marked `sqlite` are about its file."""
_MAKES_ONE = {"tmp_path", "tmp_path_factory", "store"}


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real server, one for all tests of a session."""
    with Postgres() as server:
        yield server


@pytest.fixture(autouse=True)
def database(request: pytest.FixtureRequest) -> Iterator[None]:
    """Which of the two `builders.url` means; SQLite unless a test is to run on both."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield
        return
    with builders.on(request.getfixturevalue("postgres")):
        yield


@pytest.fixture(autouse=True)
def in_large_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the writer here, and each transaction takes its time."""
    monkeypatch.setattr(accounting, "NODES", 96)


@pytest.fixture
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Store]:
    """Two days of history, to be read."""
    async with two_days(tmp_path_factory) as store:
        yield store


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test of the modules above on both."""
    is_of_one = metafunc.definition.get_closest_marker("sqlite") is not None
    module = metafunc.module.__name__.rpartition(".")[2]
    if module in ON_BOTH and not is_of_one and _MAKES_ONE & {*metafunc.fixturenames}:
        both = [pytest.param(name, marks=pytest.mark.real) for name in ("sqlite", "postgresql")]
        metafunc.parametrize("database", both, indirect=True)
