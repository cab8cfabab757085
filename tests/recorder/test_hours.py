"""Packed hours say what rows of hours said; those of the layout before come over whole."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from services.recorder.schema import tables
from services.recorder.schema.migrate import upgrade
from services.recorder.storage.connect import url_of, writing
from services.recorder.store import Store
from services.recorder.values import hours, rollup
from services.recorder.values.columns import to_slot
from services.recorder.values.hours import Day
from services.recorder.values.packing import unpack
from tests.recorder.builders import hours_of, url
from tests.recorder.test_month import START, a_sample, event, record, rows, settle

A_DAY = to_slot(START)
NUMBERS = st.lists(
    st.integers(-(2**63), 2**63 - 1),
    min_size=len(hours.OF_GPU.names),
    max_size=len(hours.OF_GPU.names),
)


@settings(max_examples=20)
@given(st.dictionaries(st.integers(0, 287), NUMBERS, min_size=1, max_size=30))
def test_whatever_is_packed_comes_out_again(of_day: hours.Hours) -> None:
    assert Day(hours.OF_GPU.pack(of_day)).hours() == dict(sorted(of_day.items()))


def test_what_is_larger_than_a_database_s_numbers_becomes_the_largest() -> None:
    width = len(hours.OF_GPU.names)
    packed = hours.OF_GPU.pack({0: [10**20] * width, 1: [-(10**20)] * width, 2: [7] * width})

    assert [row[0] for row in Day(packed).hours().values()] == [2**63 - 1, -(2**63), 7]


@pytest.mark.parametrize("data", [b"", b"\x07abc", b"\x01abc"])
def test_what_a_disk_has_changed_is_a_wrong_value(data: bytes) -> None:
    for read in (Day, unpack):
        with pytest.raises(ValueError, match="damaged"):
            read(data)


def test_what_was_not_known_has_no_seconds_and_no_limits() -> None:
    sample = a_sample(START).model_dump() | {"fan_percent": None}
    totals = rollup.of_samples([sample])

    told = hours.OF_GPU.totals_of(hours.OF_GPU.numbers_of(totals))

    assert told == totals
    assert (told["fan_percent_seconds"], told["fan_percent_max"]) == (0, None)


def stored(start: int, load: int, *, has_fan: bool) -> dict[str, Any]:
    """A row of the layout before: half an hour of work in an hour, of which power was known."""
    row: dict[str, Any] = {"device": 1, "start": start, "samples": 360}
    row |= dict.fromkeys((f"{state}_seconds" for state in rollup.STATES), 0)
    row |= {"busy_seconds": 1_800_000, "idle_seconds": 1_800_000}
    row |= {"energy_joules": 1_080_000_123, "energy_seconds": None}
    for gauge in rollup.GPU.gauges:
        row |= {f"{gauge}_sum": load * 3600, f"{gauge}_seconds": None}
        row |= {f"{gauge}_min": load - 1, f"{gauge}_max": load + 1}
    row["power_watts_seconds"] = 1_800_000
    if not has_fan:
        row |= {"fan_percent_sum": 0, "fan_percent_seconds": 0}
        row |= {"fan_percent_min": None, "fan_percent_max": None}
    return row


def insert(connection: Connection, table: str, row: dict[str, Any]) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join(f":{name}" for name in row)
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), row)


def fill(connection: Connection) -> None:
    upgrade(connection, "0003")
    insert(connection, "name", {"id": 70, "text": "n1"})
    device = {"node": 70, "gpu": "GPU-1", "first_at": 0, "last_at": 0}
    insert(connection, "device", device)
    for number in range(30):
        row = stored(A_DAY + 12 * number, 10 + number, has_fan=number != 5)
        insert(connection, "sample_1h", row)
        insert(connection, "sample_1h", row | {"device": 0})
    run = {"node": 70, "first_at": 5, "at": 9, "entry": "fold", "gpus": "[]", "state": "evicted"}
    run |= {"is_final": True, "reason": "", "simulated": False, "ended_at": 9}
    stages = {"noticed_to_term_seconds": 0.0012346, "term_to_exit_seconds": 1e300}
    insert(connection, "run", run | {"run": "r1"} | stages)
    insert(connection, "run", run | {"run": "r2"})


async def test_hours_and_stages_of_the_layout_before_come_over(tmp_path: Path) -> None:
    where = url(tmp_path, with_tables=False)
    Path(tmp_path / "recorder").mkdir(exist_ok=True)
    engine = writing(url_of(where))
    async with engine.begin() as connection:
        await connection.run_sync(fill)
    await engine.dispose()

    async with Store(where) as store:
        of_one = await hours_of(store, 1)
        assert of_one == await hours_of(store)
        assert [*of_one] == [START + timedelta(hours=number) for number in range(30)]
        hour = of_one[START + timedelta(hours=5)]
        assert (hour["samples"], hour["seconds"], hour["busy_seconds"]) == (360, 3600, 1800)
        assert (hour["energy_joules"], hour["energy_seconds"]) == (1_080_000.123, 3600)
        assert (hour["power_watts_seconds"], hour["power_watts_max"]) == (1800, 1.6)
        assert (hour["fan_percent_seconds"], hour["fan_percent_min"]) == (0, None)
        assert of_one[START]["fan_percent_seconds"] == 3600
        evicted, other = sorted(await rows(store, tables.run), key=lambda one: one["run"])
        assert evicted["noticed_to_term_seconds"] == 0.001235
        assert evicted["term_to_exit_seconds"] is None
        assert other["noticed_to_term_seconds"] is None

        # And they are added to.
        late = START + timedelta(hours=5, minutes=10)
        await record(store, [event(1, [a_sample(late)])], late + timedelta(days=1))
        await settle(store, late + timedelta(days=1))
        assert (await hours_of(store, 1))[START + timedelta(hours=5)]["seconds"] == 3750
