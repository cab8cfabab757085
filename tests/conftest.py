"""Fixtures that many tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.builders import folder_for_all
from tests.mosquitto import Mosquitto
from tests.nvml_stand_in import build

# Some Pythons' readline tells the workers of xdist how wide a terminal is that they do not have.
os.environ.pop("COLUMNS", None)

# Time is no property of a value: on a machine under load the first example is often late.
settings.register_profile("gleaner", deadline=None)
settings.load_profile("gleaner")


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A real broker, one for all tests; `forget()` empties it."""
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as broker:
        yield broker


@pytest.fixture
def common_path() -> Iterator[Path]:
    """A directory that other users may enter; pytest's `tmp_path` is closed to them."""
    with folder_for_all() as folder:
        yield folder


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for libnvidia-ml.so.1, built once."""
    return build(tmp_path_factory.mktemp("nvml"))
