"""The outbox when its process is killed and when its disk is full: real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gleaner.bus.outbox import Outbox
from tests.bus.test_outbox import all_of, an_event, texts
from tests.disks import small_disk

pytestmark = pytest.mark.real

APPENDER = """
import sys, time
from pathlib import Path
from gleaner.bus.outbox import Outbox
from tests.bus.test_outbox import an_event

with Outbox(Path(sys.argv[1])) as outbox:
    number = 0
    while True:
        kept = outbox.append(an_event(str(number)))
        while outbox._changes:
            time.sleep(0.0002)
        print(kept.sequence, flush=True)
        number += 1
"""


def test_what_was_on_disk_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        for line in child.stdout:
            if int(line) >= 100:
                break
        os.kill(child.pid, signal.SIGKILL)
        last = max([100, *(int(line) for line in child.stdout if line.endswith("\n"))])

    with Outbox(path) as outbox:
        found = [event.sequence for event in all_of(outbox)]
        assert found[:last] == list(range(1, last + 1))
        assert outbox.append(an_event()).stream != all_of(outbox)[0].stream


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB."""
    with small_disk(tmp_path / "disk", "300k") as path:
        yield path


def test_a_full_disk_is_said_and_what_waited_is_written_when_it_is_not(
    disk: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gleaner.bus.outbox.RETRY_SECONDS", 0.05)
    path = disk / "outbox.sqlite"
    with Outbox(path) as outbox:
        outbox.append(an_event("before"))
        wait(lambda: not outbox._changes)
        (disk / "filler").write_bytes(b"x" * free_bytes(disk))
        for number in range(200):
            outbox.append(an_event(os.urandom(500).hex() + str(number)))
        wait(lambda: "memory only" in caplog.text)
        assert str(path) in caplog.text
        assert len(all_of(outbox)) == 201
        sent = texts(outbox)

        (disk / "filler").unlink()

        wait(lambda: not outbox._changes)
        wait(lambda: "can be written again" in caplog.text)
    with Outbox(path) as outbox:
        assert texts(outbox) == sent


def test_a_file_that_breaks_while_in_use_is_replaced_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "outbox.sqlite"
    with Outbox(path) as outbox:
        for number in range(500):
            outbox.append(an_event(os.urandom(200).hex() + str(number)))
        outbox.append(an_event("a"))
    with Outbox(path) as outbox:
        kept = texts(outbox)
        # Every page but the first, as a dying disk might.
        with path.open("r+b") as file:
            size = path.stat().st_size
            file.seek(4096)
            file.write(b"\xa5" * (size - 4096))
        outbox.append(an_event("b"))
        wait(lambda: not outbox._changes)
    with Outbox(path) as outbox:
        assert texts(outbox) == [*kept, "b"]
    assert "a new one begins" in caplog.text


def free_bytes(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def wait(condition: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.005)
