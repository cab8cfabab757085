"""The recorder as a program: what it says when it cannot start, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gleaner.bus.connection import Connection
from gleaner.bus.local import NodeBus
from gleaner.bus.message import Writer
from gleaner.bus.messages import EventKind, Holder, Recorded, RecorderState
from gleaner.bus.mqtt import MqttBus
from gleaner.bus.outbox import Outbox
from services.recorder.store import Store
from tests.builders import until
from tests.mosquitto import Mosquitto
from tests.recorder.builders import a_query, an_event, url
from tests.recorder.test_daily import a_beat, a_gpu
from tests.recorder.test_replacement import spoil_frame

pytestmark = pytest.mark.broker


def recorder(directory: Path, broker: Mosquitto, **more: str) -> subprocess.Popen[str]:
    settings = {"GLEANER_BUS__URL": broker.url, "GLEANER_NODE__DATA_DIRECTORY": str(directory)}
    return subprocess.Popen(
        [sys.executable, "-m", "services.recorder"],
        env=os.environ | settings | more,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_it_is_healthy_and_ends_cleanly_with_sigterm(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with recorder(tmp_path, mosquitto) as child:
        assert child.stderr
        await until((tmp_path / "health" / "recorder").exists)
        child.send_signal(signal.SIGTERM)
        said = child.stderr.read()

    assert child.returncode == 0
    assert "connected to the broker" in said
    assert "WARNING" not in said
    assert "Traceback" not in said
    assert not (tmp_path / "recorder" / "gleaner.sqlite-wal").exists()


def test_mistakes_in_its_settings_end_it_with_2(mosquitto: Mosquitto, tmp_path: Path) -> None:
    mistakes = {"GLEANER_DATABASE__URL": "mysql://x", "GLEANER_DATABASE__SAMPLE_DAYS": "-1"}
    with recorder(tmp_path, mosquitto, **mistakes) as child:
        assert child.stderr
        said = child.stderr.read().splitlines()

    assert child.returncode == 2
    assert [line.partition(":")[0] for line in said] == list(mistakes)


async def test_a_database_that_it_cannot_use_is_named(mosquitto: Mosquitto, tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        newer = store.name
    with sqlite3.connect(newer) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    for database_url, why in (
        (f"sqlite:///{newer}", "was written by a newer version"),
        ("sqlite:////proc/none/gleaner.sqlite", "/proc/none"),
    ):
        with recorder(tmp_path, mosquitto, GLEANER_DATABASE__URL=database_url) as child:
            assert child.stderr
            said = child.stderr.read()

        assert child.returncode == 1
        assert why in said
        assert "Traceback" not in said


async def test_a_server_that_is_away_is_named_and_waited_for(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    away = "postgresql://user1:secret@127.0.0.1:1/none"
    with recorder(tmp_path, mosquitto, GLEANER_DATABASE__URL=away) as child:
        assert child.stderr
        said = ""
        while "nothing is recorded until" not in said:
            said += child.stderr.readline()
            assert child.poll() is None
        child.terminate()
        said += child.stderr.read()

    assert child.returncode == 0
    assert "user1:***@127.0.0.1:1/none" in said
    assert "Traceback" not in said
    assert "secret" not in said


async def test_a_second_recorder_does_not_start(mosquitto: Mosquitto, tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        with recorder(tmp_path, mosquitto) as child:
            assert child.stderr
            said = child.stderr.read()

    assert child.returncode == 1
    assert f"{store.name}: another process (pid {os.getpid()}) writes to it" in said
    assert "Traceback" not in said


async def test_a_log_that_is_overwritten_while_it_runs_is_kept_aside_and_told_of(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    node = MqttBus(Connection(url=mosquitto.url), "node", "n1")
    stream, heard, states = uuid.uuid4().hex, list[Recorded](), list[RecorderState]()
    node.subscribe(Recorded, lambda one: heard.append(one.message))  # type: ignore[arg-type]
    node.subscribe(RecorderState, lambda one: states.append(one.message))  # type: ignore[arg-type]
    speaking = asyncio.create_task(node.run())
    log = Path(f"{url(tmp_path).removeprefix('sqlite:///')}-wal")
    with recorder(tmp_path, mosquitto) as child:
        await until((tmp_path / "health" / "recorder").exists)
        node.publish(an_event(1, stream=stream))
        await until(lambda: any(one.streams.get(stream) == 1 for one in heard))
        with log.open("r+b") as file:
            file.write(os.urandom(log.stat().st_size))
        node.publish(a_query(expires_at=datetime.now(UTC) + timedelta(minutes=1)))
        await until(lambda: bool(states and states[-1].kept_aside))
        node.publish(an_event(2, stream=stream, oldest=2))
        await until(lambda: any(one.streams.get(stream) == 2 for one in heard))
        child.terminate()
        assert child.stderr
        said = child.stderr.read()
    speaking.cancel()
    await asyncio.wait([speaking])

    assert child.returncode == 0
    assert "the file is examined" in said
    assert "a new one begins" in said
    assert "SELECT" not in said
    (name,) = states[-1].kept_aside
    assert {path.name for path in log.parent.glob("*.damaged-*")} >= {name, f"{name}-wal"}


async def test_what_a_damaged_log_had_is_told_and_what_nodes_still_have_comes_again(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    remote, states = MqttBus(Connection(url=mosquitto.url), "node", "n1"), list[RecorderState]()
    remote.subscribe(RecorderState, lambda one: states.append(one.message))  # type: ignore[arg-type]
    file = Path(url(tmp_path).removeprefix("sqlite:///"))
    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        bus = NodeBus("n1", "boot", remote, outbox, frozenset({Writer.COLLECTOR}))
        working = [asyncio.create_task(one.run()) for one in (remote, bus)]
        with recorder(tmp_path, mosquitto) as child:
            for number in range(1, 6):
                bus.record(EventKind.PROBLEM, {"what": "test", "text": str(number)})
                await until(lambda: bus.unrecorded == 0)
            child.kill()
        for number in range(6, 9):
            bus.record(EventKind.PROBLEM, {"what": "test", "text": str(number)})
        spoil_frame(Path(f"{file}-wal"), at=100)

        with recorder(tmp_path, mosquitto) as child:
            await until(lambda: bus.unrecorded == 0)
            await until(lambda: bool(states[-1].lost_events))
            child.terminate()
            assert child.stderr
            said = child.stderr.read()
        for one in working:
            one.cancel()
        await asyncio.wait(working)

    (name,) = states[-1].kept_aside
    assert f"it is damaged before its end; it is kept as {name}" in said
    lost = states[-1].lost_events or 0
    with contextlib.closing(sqlite3.connect(file)) as database:
        found = [number for (number,) in database.execute("SELECT sequence FROM event ORDER BY 1")]
    assert found == [*range(1, 6 - lost), 6, 7, 8]


async def test_with_a_directory_it_writes_the_daily_table(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    node = MqttBus(Connection(url=mosquitto.url), "node", "n1")
    more = {
        "GLEANER_ACCOUNTING__CSV_DIRECTORY": str(tmp_path / "csv"),
        "GLEANER_ACCOUNTING__CSV_MINUTES": "1",
    }
    beating = asyncio.create_task(node.run())
    with recorder(tmp_path, mosquitto, **more) as child:
        await until((tmp_path / "health" / "recorder").exists)
        node.publish(a_gpu(Holder(pid=4711, user="alice")))

        def is_written() -> bool:
            node.publish(a_beat(datetime.now(UTC)))
            return any((tmp_path / "csv" / "n1").glob("*_gpu_stats.csv"))

        # Up to half a minute until the next point of the clock.
        await until(is_written, 45)
        child.terminate()
        beating.cancel()
        await asyncio.wait([beating])

    (file,) = (tmp_path / "csv" / "n1").iterdir()
    heading, row = file.read_text().splitlines()
    assert heading == "timestamp,user,pid,gpu,usage"
    assert row.partition(",")[2] == "alice,4711,1,"


async def test_the_command_exports_what_it_recorded(mosquitto: Mosquitto, tmp_path: Path) -> None:
    node = MqttBus(Connection(url=mosquitto.url), "node", "n1")
    speaking = asyncio.create_task(node.run())
    file, heard = tmp_path / "events.json", list[Recorded]()
    node.subscribe(Recorded, lambda one: heard.append(one.message))  # type: ignore[arg-type]
    with recorder(tmp_path, mosquitto) as child:
        await until((tmp_path / "health" / "recorder").exists)
        stream = uuid.uuid4().hex
        for number in range(1, 4):
            node.publish(an_event(number, stream=stream))
        await until(lambda: any(one.streams.get(stream) == 3 for one in heard))
        arguments = ("export", "data", "events", str(file), "--node", "n1")
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gleaner.cli", *arguments),
            env=os.environ | {"GLEANER_BUS__URL": mosquitto.url},
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await command.communicate()
        child.terminate()
    speaking.cancel()
    await asyncio.wait([speaking])

    assert (command.returncode, said.decode()) == (0, f"{file}: 3 events\n")
    assert [row["sequence"] for row in json.loads(file.read_text())] == [3, 2, 1]
