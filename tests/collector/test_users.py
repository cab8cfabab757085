"""Names of users."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from services.collector.processes import users
from services.collector.processes.users import UserNames
from tests.builders import until


async def test_a_name_is_known_and_a_number_without_one_is_none() -> None:
    names = UserNames()

    await until(lambda: names.of(0) == "root")
    names.of(54321)
    await until(lambda: names.knows(54321))
    assert names.of(54321) is None


async def test_a_slow_directory_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(user_id: int) -> SimpleNamespace:
        time.sleep(0.3)
        return SimpleNamespace(pw_name=f"user{user_id}")

    monkeypatch.setattr(users.pwd, "getpwuid", slow)
    names, started = UserNames(), time.monotonic()

    assert names.of(7) is None
    assert not names.knows(7)
    assert time.monotonic() - started < 0.2
    await until(lambda: names.of(7) == "user7")
