"""A disk without room under each of the recorder's works: one clear word, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.runtime import Fatal
from services.recorder import service
from services.recorder.schema import tables
from services.recorder.store import Store
from services.recorder.upkeep.moving import bring_up_to_date, copy
from tests.builders import until
from tests.disks import SmallDisk, small_disk
from tests.mosquitto import Mosquitto
from tests.recorder.builders import an_event, count, recording, url
from tests.recorder.test_daily import SEED, Daily, a_beat, a_gpu, table
from tests.recorder.test_migration import insert, micro, old_database
from tests.recorder.test_month import START, a_sample, event, record, rows
from tests.recorder.test_moving import nothing
from tests.recorder.test_process import recorder

pytestmark = pytest.mark.broker

HOUR = timedelta(hours=1)
FULL = "database or disk is full"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", "6m") as path:
        yield SmallDisk(path)


async def test_roll_ups_wait_for_room_and_count_everything_once(
    disk: SmallDisk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "ROLL_UP_SECONDS", 0.05)
    monkeypatch.setattr(service, "RETRY_SECONDS", (0.05, 0.1))
    broker = MemoryBroker()
    async with Store(url(disk.path)) as store:
        samples = [a_sample(START + HOUR * 8 + timedelta(minutes=5) * place) for place in range(60)]
        await record(store, [event(1, samples)], START + HOUR * 14)
        disk.fill()
        async with MemoryBus(broker, "node", "n1") as node:
            bus = MemoryBus(broker, "recorder", "main")
            async with recording(bus, store), bus:
                await until(lambda: "roll-ups wait" in caplog.text)
                node.publish(an_event(2, at=START))
                await until(lambda: "nothing is recorded until" in caplog.text)
                assert await count(store, tables.sample_1d) == 0

                disk.empty()

                await until(lambda: store.recorded("n1") == {"s1": 2})
                await until(lambda: _said(caplog, "can be written again") == 1)
                while not (found := await rows(store, tables.sample_1d)):
                    await store.condition()
    assert {row["samples"] for row in found} == {60}
    assert _said(caplog, "roll-ups wait: " + FULL) == 1
    assert _said(caplog, "nothing is recorded until") == 1


def _said(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in one.getMessage() for one in caplog.records)


async def test_a_migration_at_the_start_waits_for_room_and_takes_everything_over(
    mosquitto: Mosquitto, disk: SmallDisk
) -> None:
    file = disk.path / "recorder" / "gleaner.sqlite"
    database = old_database(file)
    insert(
        database,
        "stream",
        {"node": "n1", "stream": "s1", "watermark": 1500, "gaps": 0, "updated_at": micro(START)},
    )
    for number in range(1, 1501):
        insert(
            database,
            "event",
            {
                "node": "n1", "stream": "s1", "sequence": number, "kind": "people",
                "gpu": None, "boot_id": "boot", "at": micro(START), "received_at": micro(START),
                "data": f'{{"text": "{os.urandom(400).hex()}"}}',
            },
        )  # fmt: skip
    database.commit()
    database.close()
    disk.fill()

    with recorder(disk.path, mosquitto) as child:
        assert child.stderr
        said = child.stderr.read()
    assert child.returncode == 1
    (line,) = (one for one in said.splitlines() if "ERROR" in one)
    assert f"{file}: {FULL}" in line
    assert "Traceback" not in said
    with pytest.raises(Fatal, match=FULL):
        await bring_up_to_date(url(disk.path))

    disk.empty()
    with recorder(disk.path, mosquitto) as child:
        await until((disk.path / "health" / "recorder").exists)
        child.terminate()
    assert child.returncode == 0
    async with Store(url(disk.path)) as store:
        assert await count(store, tables.event) == 1500


async def test_a_copy_that_finds_no_room_leaves_nothing_and_can_be_made_later(
    tmp_path: Path, disk: SmallDisk
) -> None:
    source, target = url(tmp_path), f"sqlite:///{disk.path / 'copy.sqlite'}"
    async with Store(source) as store:
        for number in range(1, 200):
            await record(store, [an_event(number, data={"text": os.urandom(2000).hex()})], START)
    disk.fill(but=500_000)

    with pytest.raises(Fatal, match=rf"^{disk.path}/copy\.sqlite.*: {FULL}$"):
        await copy(source, target, nothing)
    assert [path.name for path in disk.path.iterdir()] == ["filler"]

    disk.empty()
    assert await copy(source, target, nothing) >= 199
    async with Store(target) as store:
        assert await count(store, tables.event) == 199


async def test_the_daily_table_waits_for_room_and_goes_on(
    disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    story = Daily(disk.path / "csv", MemoryBroker())
    file = story.directory / "n1" / "20261121_gpu_stats.csv"
    async with MemoryBus(story.broker, "recorder", "main") as bus:
        writer = story.start(bus)
        for minute in range(4):
            story.now = datetime(2026, 11, 21, 12, minute, tzinfo=UTC)
            await story.say(a_gpu(SEED, at=story.now), a_beat(story.now))
            if minute == 1:
                # The file's last page has room for some rows yet.
                with file.open("a") as rest:
                    rest.write("\n" * (4096 - file.stat().st_size))
                disk.fill()
            if minute == 3:
                disk.empty()
            await writer.look()

    assert [one[0] for one in table(file) if one] == ["timestamp", *map(str, STAMPS)]
    assert _said(caplog, f"{file}: No space left on device; rows are missing") == 1
    assert _said(caplog, "can be written again") == 1


STAMPS = [int(datetime(2026, 11, 21, 12, minute, tzinfo=UTC).timestamp()) for minute in (0, 3)]
