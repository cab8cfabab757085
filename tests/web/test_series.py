"""From recorded buckets to charts: a gap is a gap, and nothing known is not 0."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from services.web.history.series import (
    USED_IN_PARTS,
    Series,
    data_of,
    host_series_of,
    resolution_text,
    series_of,
)
from services.web.history.spans import CHART_PRESETS, Span
from tests.builders import NOW
from tests.web.canned import Row, bucket

DAY = Span(since=NOW - timedelta(days=1), until=NOW, preset=CHART_PRESETS[1])
FIVE = timedelta(minutes=5)


def made(*rows: Row) -> Series:
    series = series_of(reversed(rows), DAY)
    assert series is not None
    return series


def at(number: int, state: str = "busy", **values: Any) -> Row:
    return bucket(NOW - timedelta(hours=10) + number * FIVE, state, **values)


def test_what_was_not_recorded_is_a_gap_and_no_line() -> None:
    series = made(
        at(0, utilization_percent=50),
        at(1, utilization_percent=60),
        at(9, utilization_percent=70),
    )

    assert series.gaps == 1
    assert series.charts[0].mean == (50, 60, None, 70)
    assert series.charts[0].line_path.count("M") == 2
    assert series.shares["busy"] == (1, 1, None, 1)


def test_samples_that_stand_for_longer_than_a_bucket_leave_no_gap() -> None:
    rows = [at(2 * number, utilization_percent=1) for number in range(4)]
    for row in rows:
        row |= {"samples": 1, "seconds": 600}

    series = made(*rows)
    assert series.gaps == 0
    assert len(series.ribbon) == 1


def test_a_reading_that_the_driver_does_not_give_is_no_zero() -> None:
    chart = made(at(0, power_watts=None), at(1, power_watts=None)).charts[2]

    assert chart.mean == (None, None)
    assert chart.line_path == ""
    assert chart.summary == "no reading in this time"


def test_the_summary_weighs_time_and_names_the_unit() -> None:
    long = at(1, temperature_celsius=70) | {"seconds": 900}
    chart = made(at(0, temperature_celsius=30), long).charts[3]

    assert chart.summary == "mean 60 °C, from 30 to 70 °C"


def test_the_ribbon_joins_what_is_alike() -> None:
    series = made(at(0), at(1), at(2, "idle"), at(3))

    assert [(one.state, one.shade) for one in series.ribbon] == [
        ("idle", 4),
        ("busy", 4),
        ("busy", 4),
    ]
    assert series.ribbon_summary == "busy 75 %, idle 25 %"


def test_lanes_of_rare_states_are_shown_where_they_occurred() -> None:
    assert made(at(0)).lanes == ("idle", "ours", "busy", "held", "unknown")
    assert "lost" in made(at(0, "lost")).lanes


def of_host(*rows: Row) -> Series:
    series = host_series_of(rows, DAY)
    assert series is not None
    return series


def a_host(number: int, **values: Any) -> Row:
    names = ("cpu_percent", "load_1_minute", "memory_used_bytes", "disk_used_percent")
    nothing = dict.fromkeys(names)
    network = ("received", "sent")
    nothing |= {f"network_{way}_bytes_per_second": None for way in network}
    return at(number, **nothing | values)


def test_a_host_has_its_charts_and_no_states() -> None:
    series = of_host(a_host(0, cpu_percent=40, load_1_minute=3.25), a_host(1, cpu_percent=60))

    assert [chart.gauge.title for chart in series.charts] == [
        "CPU", "Load over a minute", "Memory", "Fullest disk", "Network in", "Network out",
    ]  # fmt: skip
    assert (series.lanes, series.ribbon) == ((), ())
    assert series.charts[0].mean == (40, 60)
    assert series.charts[1].summary == "mean 3.2, from 3.2 to 3.2"
    assert series.charts[3].summary == "no reading in this time"
    assert series.lines[0].cells == ("60.0", "–", "–", "–", "–", "–")


def test_the_network_is_told_in_the_unit_that_fits() -> None:
    for rate, said in ((1500, "1.5 kB/s"), (2.5e6, "2.5 MB/s"), (12.5e9, "12.5 GB/s")):
        chart = of_host(a_host(0, network_received_bytes_per_second=rate)).charts[4]

        assert chart.summary == f"mean {said}, from {said.split()[0]} to {said}"
        assert chart.mean[0] == float(said.split()[0])


def test_an_answer_that_is_not_about_the_host_is_not_shown_as_such() -> None:
    assert host_series_of([at(0, memory_used_bytes=2**30)], DAY) is None


def test_a_gpu_in_mig_mode_is_not_idle_and_not_used() -> None:
    row = at(0, power_watts=240) | {"busy_seconds": 0}
    series = made(row)

    assert series.ribbon_summary == series.lines[0].states == USED_IN_PARTS


def test_nothing_recorded_is_no_chart() -> None:
    assert series_of([], DAY) is None


def test_script_and_table_tell_the_same() -> None:
    series = made(at(0, memory_used_bytes=3 * 2**30), at(1, "idle", memory_used_bytes=0))
    data = data_of(series)

    assert data["gauges"]["memory_used_bytes"]["mean"] == (3.0, 0.0)
    assert [line.cells[1] for line in series.lines] == ["0.0", "3.0"]
    assert [line.states for line in series.lines] == ["idle 100 %", "busy 100 %"]


def test_resolutions_are_told_as_people_say_them() -> None:
    texts = [resolution_text(timedelta(seconds=s)) for s in (30, 300, 7200, 86400, 864000)]

    assert texts == ["30 s", "5 min", "2 h", "1 day", "10 days"]
