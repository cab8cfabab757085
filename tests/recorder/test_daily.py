"""The daily table: whose process is on which GPU, minute by minute, in files that stay whole."""

from __future__ import annotations

import asyncio
import csv
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.message import Message
from gleaner.bus.messages import (
    Availability,
    Beat,
    GpuCondition,
    GpuReading,
    GpuState,
    Holder,
    HostReading,
    Telemetry,
)
from gleaner.fleet import Fleet, NodeView
from gleaner.settings import AccountingSettings
from services.recorder import daily
from services.recorder.daily_file import DailyFiles, append, daily_files
from tests.builders import NOW
from tests.bus.test_fleet import delivery
from tests.web.example import Example

BERLIN = ZoneInfo("Europe/Berlin")
SEED_AT = datetime.fromtimestamp(1616584347, UTC)
SEED = Holder(pid=456815, user="m_user")


def a_gpu(
    *holders: Holder, index: int = 1, at: datetime = SEED_AT, node: str = "n1", state: str = ""
) -> GpuState:
    return GpuState(
        node=node,
        gpu=f"GPU-{index}",
        index=index,
        state=GpuCondition(state or ("busy" if holders else "idle")),
        since=at,
        holders=holders,
        at=at,
    )


def readings(*percents: float | None, at: datetime = SEED_AT, node: str = "n1") -> Telemetry:
    gpus = tuple(
        GpuReading(gpu=f"GPU-{index}", index=index, utilization_percent=percent)
        for index, percent in enumerate(percents)
    )
    return Telemetry(node=node, gpus=gpus, host=HostReading(), interval_seconds=10, at=at)


def a_beat(at: datetime = SEED_AT, node: str = "n1") -> Beat:
    return Beat(node=node, sequence=1, check_seconds=0.01, at=at)


def view(*messages: Message, at: datetime = SEED_AT) -> NodeView:
    fleet = Fleet()
    for message in messages:
        fleet.take(delivery(message), at)
    return fleet.nodes["n1"]


def rows(*messages: Message, at: datetime = SEED_AT, later: float = 0) -> Any:
    return daily.rows(view(*messages, at=at), at, at + timedelta(seconds=later))


def test_a_process_is_a_row_as_the_model_writes_it() -> None:
    found = rows(a_gpu(SEED), a_gpu(index=0), readings(0, 90), a_beat())

    assert found == (("1616584320", "m_user", "456815", "1", "90"),)


def test_two_processes_on_a_gpu_are_two_rows() -> None:
    other = Holder(pid=7, user="bob")

    found = rows(a_gpu(SEED, other), readings(0, 90), a_beat())

    assert [row[1:] for row in found] == [("m_user", "456815", "1", "90"), ("bob", "7", "1", "90")]


def test_where_nothing_runs_one_row_says_so() -> None:
    assert rows(a_gpu(index=0), a_gpu(), readings(0, 0), a_beat()) == (
        ("1616584320", "-", "-", "-", "0"),
    )


def test_with_idle_gpus_each_has_a_row_where_nothing_runs() -> None:
    lost = a_gpu(index=2, state="lost")
    messages = (a_gpu(index=0), a_gpu(SEED), lost, readings(0, 90, None), a_beat())

    found = daily.rows(view(*messages), SEED_AT, SEED_AT, with_idle=True)

    when = "1616584320"
    assert found == ((when, "-", "-", "0", "0"), (when, "m_user", "456815", "1", "90"))


def test_what_does_not_count_as_use_is_no_row() -> None:
    smi = Holder(pid=9, user="root", ignored="program nvidia-smi")

    assert rows(a_gpu(smi, state="idle"), readings(0, 0), a_beat())[0][1] == "-"


@pytest.mark.parametrize(
    ("holder", "user"),
    [
        (Holder(pid=8, alive=False), "-"),
        (Holder(pid=8), "-"),
        (Holder(pid=8, user_id=1007), "uid 1007"),
    ],
)
def test_an_owner_that_nobody_can_name_spoils_no_other_row(holder: Holder, user: str) -> None:
    found = rows(a_gpu(holder, SEED), readings(0, 90), a_beat())

    assert [row[1] for row in found] == [user, "m_user"]


def test_a_gpu_that_somebody_without_a_name_holds_is_not_shown_as_empty() -> None:
    found = rows(a_gpu(state="dirty"), readings(0, 3), a_beat())

    assert found == (("1616584320", "-", "-", "1", "3"),)


@pytest.mark.parametrize("telemetry", [[], [readings(0, None)]])
def test_a_utilization_that_is_not_known_is_empty(telemetry: list[Telemetry]) -> None:
    assert rows(a_gpu(SEED), *telemetry, a_beat())[0][-1] == ""


def test_what_is_not_current_is_no_row() -> None:
    offline = Availability.model_validate(
        {"service": "node", "instance": "n1", "state": "offline", "connection": "c", "version": "1"}
        | {"at": None}
    )
    facts = (a_gpu(SEED), readings(0, 90))
    fleet = Fleet()
    for message in (*facts, a_beat()):
        fleet.take(delivery(message), SEED_AT)
    fleet.take(delivery(offline), SEED_AT + timedelta(seconds=1))

    assert rows(*facts) is None
    assert rows(*facts, a_beat(), later=11) is None
    assert daily.rows(fleet.nodes["n1"], SEED_AT, SEED_AT + timedelta(seconds=2)) is None


def test_a_gpu_that_does_not_answer_is_not_taken_for_empty() -> None:
    assert rows(a_gpu(state="unknown"), a_gpu(index=0), a_beat()) is None
    # What is known of the others is written all the same.
    assert len(rows(a_gpu(SEED), a_gpu(index=0, state="unknown"), a_beat())) == 1


@pytest.mark.parametrize("minutes", [1, 5])
def test_the_grid_is_kept_over_an_hour_without_drift(minutes: int) -> None:
    """However late each look is, the points stay on the clock."""
    start = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    written: list[datetime] = []
    for second in range(3600):
        now = start + timedelta(seconds=second, milliseconds=second % 700)
        point = daily.point_before(now, minutes, BERLIN)
        if daily.is_due(now, point) and point not in written:
            assert now - point < timedelta(seconds=1)
            written.append(point)

    assert written == [start + timedelta(minutes=n) for n in range(0, 60, minutes)]


@pytest.mark.parametrize(
    ("at", "name"),
    [
        ("2026-11-21T22:59:00Z", "20261121_gpu_stats.csv"),
        ("2026-11-21T23:01:00Z", "20261122_gpu_stats.csv"),
        ("2026-07-21T21:59:00Z", "20260721_gpu_stats.csv"),
        ("2026-07-21T22:00:00Z", "20260722_gpu_stats.csv"),
    ],
)
def test_a_file_is_of_a_local_day(at: str, name: str) -> None:
    assert daily.file_name(datetime.fromisoformat(at), BERLIN) == name


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_the_grid_begins_at_local_midnight_also_when_the_clocks_change(day: str) -> None:
    noon = datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=BERLIN)

    point = daily.point_before(noon.astimezone(UTC), 1440, BERLIN)

    assert point.astimezone(BERLIN).isoformat()[:16] == f"{day}T00:00"


def table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


class Daily:
    """A writer whose clock is a value, and a fleet that speaks to it."""

    def __init__(self, directory: Path, broker: MemoryBroker) -> None:
        self.now = datetime(2026, 11, 21, 22, 58, tzinfo=UTC)
        self.directory = directory
        self.broker = broker

    def start(self, bus: MemoryBus, minutes: int = 1) -> DailyFiles:
        return DailyFiles(bus, self.directory, minutes, BERLIN, lambda: self.now)

    async def say(self, *messages: Message) -> None:
        """Publish, and wait until it was heard."""
        async with MemoryBus(self.broker) as nodes:
            for message in messages:
                nodes.publish(message)
            # A bus hands out what it took in the order of the loop's callbacks.
            taken = asyncio.Event()
            asyncio.get_running_loop().call_soon(taken.set)
            await taken.wait()


async def test_each_node_has_a_folder_and_each_day_a_file(tmp_path: Path) -> None:
    story = Daily(tmp_path / "csv", MemoryBroker())
    async with MemoryBus(story.broker, "recorder", "main") as bus:
        writer = story.start(bus)
        for minute in range(4):
            story.now = datetime(2026, 11, 21, 22, 58 + minute % 2, tzinfo=UTC) + timedelta(
                minutes=minute // 2 * 2
            )
            for node in ("n1", "n2"):
                await story.say(a_gpu(SEED, at=story.now, node=node), a_beat(story.now, node))
            await writer.look()
            await writer.look()

    for node in ("n1", "n2"):
        first = table(story.directory / node / "20261121_gpu_stats.csv")
        second = table(story.directory / node / "20261122_gpu_stats.csv")
        assert first[0] == second[0] == ["timestamp", "user", "pid", "gpu", "usage"]
        assert (len(first), len(second)) == (3, 3)
        stamps = [int(row[0]) for row in first[1:] + second[1:]]
        assert stamps == [stamps[0] + 60 * n for n in range(4)]


async def test_beside_the_tables_of_a_simulated_node_it_is_said_that_it_is_one(
    tmp_path: Path,
) -> None:
    story = Daily(tmp_path, MemoryBroker())
    async with MemoryBus(story.broker, "recorder", "main") as bus:
        writer = story.start(bus)
        story.now = datetime(2026, 11, 21, 22, 58, tzinfo=UTC)
        for node, source in (("n1", "nvml"), ("sim-0", "simulated")):
            is_what = Example(NOW).inventory(node, "H100", 1, 80, notices="check", source=source)
            await story.say(is_what, a_gpu(SEED, at=story.now, node=node), a_beat(story.now, node))
        await writer.look()

    assert [path.name for path in (tmp_path / "n1").iterdir()] == ["20261121_gpu_stats.csv"]
    said = (tmp_path / "sim-0" / "SIMULATED.txt").read_text()
    assert said.startswith("From 2026-11-21 22:58 UTC on the GPUs of sim-0 were simulated")
    assert len(table(tmp_path / "sim-0" / "20261121_gpu_stats.csv")) == 2


async def test_a_restart_writes_no_second_heading_and_no_row_twice(tmp_path: Path) -> None:
    story = Daily(tmp_path, MemoryBroker())
    async with MemoryBus(story.broker, "recorder", "main") as bus:
        for second in (0, 5, 60, 65):
            story.now = datetime(2026, 11, 21, 12, 0, second % 60, tzinfo=UTC) + timedelta(
                minutes=second // 60
            )
            writer = story.start(bus)
            await story.say(a_gpu(SEED, at=story.now), a_beat(story.now))
            await writer.look()

    written = table(tmp_path / "n1" / "20261121_gpu_stats.csv")
    assert written[0][0] == "timestamp"
    assert len(written) == 3
    assert len({row[0] for row in written}) == 3


async def test_who_is_heard_a_moment_later_has_its_row_and_much_later_none(tmp_path: Path) -> None:
    story = Daily(tmp_path, MemoryBroker())
    async with MemoryBus(story.broker, "recorder", "main") as bus:
        writer = story.start(bus, minutes=5)
        await writer.look()
        story.now = datetime(2026, 11, 21, 12, 5, 8, tzinfo=UTC)
        await story.say(a_gpu(SEED, at=story.now), a_beat(story.now))
        await writer.look()
        story.now = datetime(2026, 11, 21, 12, 12, tzinfo=UTC)
        await story.say(a_beat(story.now))
        await writer.look()

    written = table(tmp_path / "n1" / "20261121_gpu_stats.csv")
    assert [int(row[0]) % 3600 // 60 for row in written[1:]] == [5]


@pytest.mark.parametrize("name", ["..", "N1", "a.b", "x" * 64])
async def test_a_name_that_is_no_folder_is_left_out(tmp_path: Path, name: str) -> None:
    story = Daily(tmp_path / "csv", MemoryBroker())
    async with MemoryBus(story.broker, "recorder", "main") as bus:
        writer = story.start(bus)
        await story.say(a_gpu(SEED, at=story.now, node=name), a_beat(story.now, name))
        await writer.look()

    assert list(tmp_path.rglob("*.csv")) == []


def test_what_a_killed_recorder_left_of_a_row_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    append(path, [("60", "a", "1", "0", "5")], 60)
    with path.open("a") as file:
        file.write("120,a")

    append(path, [("180", "a", "1", "0", "5")], 180)

    assert [row[0] for row in table(path)] == ["timestamp", "60", "180"]


def test_a_name_with_a_comma_stays_one_field(tmp_path: Path) -> None:
    append(tmp_path / "day.csv", [("60", 'a,"b', "1", "0", "5")], 60)

    assert table(tmp_path / "day.csv")[1][1] == 'a,"b'


@pytest.fixture
def no_room_for_more() -> Iterator[None]:
    """The kernel lets no file grow beyond 100 bytes, and takes what fits: a disk all but full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_disk_that_takes_half_a_row_gets_none(tmp_path: Path, no_room_for_more: None) -> None:
    path = tmp_path / "day.csv"
    append(path, [("60", "a", "1", "0", "5")], 60)
    before = path.read_bytes()

    with pytest.raises(OSError, match=r"day\.csv"):
        append(path, [("120", "a" * 50, "1", "0", "5")], 120)

    assert path.read_bytes() == before


async def test_a_place_that_cannot_be_written_is_said_once_and_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    story = Daily(tmp_path / "csv", MemoryBroker())
    story.directory.write_text("somebody's file")
    async with MemoryBus(story.broker, "recorder", "main") as bus:
        writer = story.start(bus)
        for minute in range(3):
            story.now = datetime(2026, 11, 21, 12, minute, tzinfo=UTC)
            await story.say(a_gpu(SEED, at=story.now), a_beat(story.now))
            await writer.look()
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert str(story.directory) in caplog.text

        story.directory.unlink()
        await writer.look()

    assert "can be written again" in caplog.text
    assert len(table(story.directory / "n1" / "20261121_gpu_stats.csv")) == 2


def test_without_a_directory_nothing_is_heard_or_written() -> None:
    assert daily_files(MemoryBus(MemoryBroker()), AccountingSettings()) is None


def test_without_a_zone_the_day_is_the_machines() -> None:
    script = (
        "from datetime import datetime, UTC; from services.recorder import daily;"
        "at = datetime(2026, 11, 21, 23, 30, tzinfo=UTC);"
        "print(daily.file_name(at, None), daily.point_before(at, 1440, None).isoformat())"
    )
    said = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"TZ": "Europe/Berlin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.split() == ["20261122_gpu_stats.csv", "2026-11-21T23:00:00+00:00"]
