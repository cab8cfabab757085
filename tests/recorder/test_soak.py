"""Broker and recorder are killed again and again while nodes speak: every event is one row."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.recorder.values.packing import unpack
from tests.mosquitto import Mosquitto

pytestmark = pytest.mark.broker

NODES = ("n1", "n2", "n3")
EVENTS = 1500
SECONDS = 9.0


class RecorderProcess:
    def __init__(self, url: str, directory: Path) -> None:
        self.database = directory / "recorder" / "gleaner.sqlite"
        self._environment = os.environ | {
            "GLEANER_BUS__URL": url,
            "GLEANER_NODE__DATA_DIRECTORY": str(directory),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.recorder"], env=self._environment
        )

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> int:
        assert self._process
        self._process.terminate()
        return self._process.wait(10)


@contextmanager
def nodes(url: str, directory: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    what = (url, str(directory))
    how_many = (str(EVENTS), str(SECONDS))
    command = (sys.executable, "-m", "tests.recorder.node_child")
    children = [subprocess.Popen([*command, *what, node, *how_many]) for node in NODES]
    try:
        yield children
    finally:
        for child in children:
            child.kill()
            child.wait(10)


def test_every_event_is_exactly_one_row_whoever_is_killed(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        recorder = RecorderProcess(broker.url, tmp_path)
        recorder.start()
        with nodes(broker.url, tmp_path) as children:
            for _ in range(3):
                time.sleep(0.8)
                recorder.kill()
                recorder.start()
                time.sleep(0.8)
                broker.kill()
                broker.start()
                # Both: the nodes speak to a broker that knows of no recorder.
                time.sleep(0.8)
                recorder.kill()
                broker.kill()
                broker.start()
                time.sleep(0.8)
                recorder.start()
            for child in children:
                assert child.wait(20) == 0
        assert recorder.stop() == 0

    database = sqlite3.connect(recorder.database)
    for node in NODES:
        told = database.execute(
            "SELECT sequence, data FROM event JOIN name ON name.id = node WHERE text = ? "
            "ORDER BY sequence",
            (node,),
        ).fetchall()
        assert [number for number, _ in told] == list(range(1, EVENTS + 1))
        assert [int(json.loads(unpack(data))["text"]) for _, data in told] == list(range(EVENTS))
    assert database.execute("SELECT * FROM gap").fetchall() == []
    assert database.execute("SELECT * FROM dead_letter").fetchall() == []
    database.close()
