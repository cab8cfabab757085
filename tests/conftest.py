"""Fixtures that many tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mosquitto import Mosquitto


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A real broker, one for all tests; `forget()` empties it."""
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as broker:
        yield broker
