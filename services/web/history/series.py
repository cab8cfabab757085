"""From a recorded series to charts: what is missing is a gap, and never a line; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from gleaner.fleet import DIVIDED
from services.web.history import drawing
from services.web.history.spans import Span

STATES = ("idle", "ours", "busy", "held", "dirty", "lost", "unknown")
"""From what is free to what nobody knows; the lanes of the ribbon."""
USED_IN_PARTS = f"{DIVIDED}: its MIG devices are used instead"
ALWAYS_SHOWN = ("idle", "ours", "busy", "held", "unknown")
GAP_STEPS = 1.5

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """One kind of reading that has a chart."""

    name: str
    title: str
    unit: str
    factor: float = 1.0
    top: float | None = None
    """Where the axis ends, whatever the values."""
    decimals: int = 0
    larger: tuple[tuple[float, str], ...] = ()
    """Factors and units for values that are a thousand times as large, and a million times."""


GAUGES = (
    Gauge(name="utilization_percent", title="Utilization", unit="%", top=100),
    Gauge(name="memory_used_bytes", title="Memory", unit="GiB", factor=2**-30, decimals=1),
    Gauge(name="power_watts", title="Power", unit="W"),
    Gauge(name="temperature_celsius", title="Temperature", unit="°C"),
)


_BYTES = Gauge(
    name="", title="", unit="kB/s", factor=1e-3, decimals=1, larger=((1e-6, "MB/s"), (1e-9, "GB/s"))
)
HOST_GAUGES = (
    # Of many cores, one is less than a percent.
    Gauge(name="cpu_percent", title="CPU", unit="%", top=100, decimals=1),
    Gauge(name="load_1_minute", title="Load over a minute", unit="", decimals=1),
    Gauge(name="memory_used_bytes", title="Memory", unit="GiB", factor=2**-30, decimals=1),
    Gauge(name="disk_used_percent", title="Fullest disk", unit="%", top=100),
    replace(_BYTES, name="network_received_bytes_per_second", title="Network in"),
    replace(_BYTES, name="network_sent_bytes_per_second", title="Network out"),
)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One gauge over time; the lists go with `Series.starts`."""

    gauge: Gauge
    mean: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    summary: str
    top: float
    """Of the axis."""
    band_path: str
    line_path: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A bucket as a row of the table that goes with the charts."""

    start: datetime
    cells: tuple[str, ...]
    states: str


@dataclass(frozen=True, kw_only=True)
class Series:
    """Everything that the charts of one GPU, of a node's GPUs or of its host show."""

    since: datetime
    until: datetime
    resolution: timedelta
    reach: timedelta
    """How much time before its end a bucket tells of: a sample may be longer than a bucket."""
    starts: tuple[datetime, ...]
    """Of the buckets, oldest first; a gap is a bucket without anything."""
    charts: tuple[Chart, ...]
    lanes: tuple[str, ...]
    """Of the ribbon; of a host there is none."""
    shares: Mapping[str, tuple[float | None, ...]]
    """Of each state in each bucket, from 0 to 1."""
    ribbon: tuple[drawing.Stretch, ...]
    ribbon_summary: str
    gaps: int
    lines: tuple[Line, ...]
    """Newest first, without the gaps."""


def series_of(
    rows: Iterable[Row],
    span: Span,
    gauges: Sequence[Gauge] = GAUGES,
    states: Sequence[str] = STATES,
) -> Series | None:
    """Return the charts that rows of a series make; None if there is nothing to show."""
    found = sorted((row for row in rows if row.get("seconds")), key=lambda row: str(row["start"]))
    if not found:
        return None
    resolution = timedelta(seconds=float(found[-1]["resolution_seconds"]))
    buckets = _with_gaps(found, span)
    starts = tuple(start for start, _ in buckets)
    reach = max(map(_reach, found))
    width = reach / span.length * drawing.WIDTH
    ends = [(start + resolution - span.since) / span.length * drawing.WIDTH for start in starts]
    middles = [end - resolution / span.length * drawing.WIDTH / 2 for end in ends]
    parts = [row for _, row in buckets]
    shares = {state: tuple(_share(row, state) for row in parts) for state in states}
    lanes = tuple(s for s in states if s in ALWAYS_SHOWN or any(shares[s]))
    charts = tuple(_chart(gauge, parts, middles) for gauge in gauges)
    return Series(
        since=span.since,
        until=span.until,
        resolution=resolution,
        reach=reach,
        starts=starts,
        charts=charts,
        lanes=lanes,
        shares=shares,
        ribbon=tuple(
            stretch
            for state in lanes
            for stretch in drawing.ribbon(state, ends, shares[state], width)
        ),
        ribbon_summary=_time_in_states(found),
        gaps=sum(row is None for row in parts),
        lines=tuple(_line(row, [chart.gauge for chart in charts]) for row in reversed(found)),
    )


def host_series_of(rows: Iterable[Row], span: Span) -> Series | None:
    """Return the charts of a host; None if there is nothing to show."""
    # A recorder that knows nothing of hosts answers with what it knows of GPUs.
    return series_of((row for row in rows if "cpu_percent" in row), span, HOST_GAUGES, states=())


def data_of(series: Series) -> dict[str, Any]:
    """Return what the script draws."""
    return {
        "since": _milliseconds(series.since),
        "until": _milliseconds(series.until),
        "step": series.resolution / timedelta(milliseconds=1),
        "reach": series.reach / timedelta(milliseconds=1),
        "starts": [_milliseconds(start) for start in series.starts],
        "gauges": {
            chart.gauge.name: {
                "title": chart.gauge.title,
                "unit": chart.gauge.unit,
                "decimals": chart.gauge.decimals,
                "top": chart.top,
                "mean": chart.mean,
                "low": chart.low,
                "high": chart.high,
            }
            for chart in series.charts
        },
        "lanes": [{"state": state, "shares": series.shares[state]} for state in series.lanes],
    }


def resolution_text(resolution: timedelta) -> str:
    """Return how much time a point stands for: `30 s`, `5 min`, `2 h`, `1 day`."""
    seconds = resolution.total_seconds()
    for size, name in ((86400, "day"), (3600, "h"), (60, "min")):
        if seconds >= size:
            number = f"{seconds / size:.3g}"
            return f"{number} {name}s" if name == "day" and number != "1" else f"{number} {name}"
    return f"{seconds:.3g} s"


def _with_gaps(found: Sequence[Row], span: Span) -> list[tuple[datetime, Row | None]]:
    """Return all buckets, and an empty one wherever some are missing."""
    buckets: list[tuple[datetime, Row | None]] = []
    before: tuple[datetime, timedelta] | None = None
    for row in found:
        start = datetime.fromisoformat(str(row["start"]))
        if before is not None and start - before[0] > GAP_STEPS * before[1]:
            buckets.append((before[0] + before[1], None))
        if start >= span.until:
            continue
        buckets.append((start, row))
        before = start, _reach(row)
    return buckets


def _reach(row: Row) -> timedelta:
    each = float(row["seconds"]) / max(1, int(row["samples"]))
    return timedelta(seconds=max(float(row["resolution_seconds"]), each))


def _share(row: Row | None, state: str) -> float | None:
    if row is None:
        return None
    return round(float(row.get(f"{state}_seconds") or 0) / float(row["seconds"]), 4)


def _chart(gauge: Gauge, parts: Sequence[Row | None], middles: Sequence[float]) -> Chart:
    gauge = _fitting(gauge, parts)

    def values(suffix: str) -> tuple[float | None, ...]:
        return tuple(_value(gauge, row, suffix) for row in parts)

    mean, low, high = values(""), values("_min"), values("_max")
    top = gauge.top or drawing.round_top(max((one for one in high if one is not None), default=1.0))
    return Chart(
        gauge=gauge,
        mean=mean,
        low=low,
        high=high,
        summary=_summary(gauge, parts, mean, low, high),
        top=top,
        band_path=drawing.band_path(middles, low, high, top),
        line_path=drawing.line_path(middles, mean, top),
    )


def _fitting(gauge: Gauge, parts: Sequence[Row | None]) -> Gauge:
    """Return a gauge in the unit in which the highest value is neither tiny nor huge."""
    highest = max((float(row.get(f"{gauge.name}_max") or 0) for row in parts if row), default=0.0)
    for factor, unit in gauge.larger:
        if highest * factor >= 1:
            gauge = replace(gauge, factor=factor, unit=unit)
    return gauge


def _value(gauge: Gauge, row: Row | None, suffix: str) -> float | None:
    value = row.get(f"{gauge.name}{suffix}") if row else None
    return None if value is None else round(float(value) * gauge.factor, gauge.decimals + 1)


def _summary(
    gauge: Gauge,
    parts: Sequence[Row | None],
    mean: Sequence[float | None],
    low: Sequence[float | None],
    high: Sequence[float | None],
) -> str:
    pairs = zip(parts, mean, strict=True)
    known = [(float(row["seconds"]), value) for row, value in pairs if row and value is not None]
    if not known:
        return "no reading in this time"
    total = sum(seconds for seconds, _ in known)
    average = sum(seconds * value for seconds, value in known) / total
    lowest = min((one for one in low if one is not None), default=average)
    highest = max((one for one in high if one is not None), default=average)
    numbers = (f"{one:.{gauge.decimals}f}" for one in (average, lowest, highest))
    unit = f" {gauge.unit}" if gauge.unit else ""
    return "mean {}{unit}, from {} to {}{unit}".format(*numbers, unit=unit)


def _time_in_states(found: Sequence[Row]) -> str:
    seconds: Counter[str] = Counter()
    for row in found:
        for state in STATES:
            seconds[state] += float(row.get(f"{state}_seconds") or 0)  # type: ignore[assignment]
    return _states_text(seconds)


def _states_text(seconds: Mapping[str, float]) -> str:
    total = sum(seconds.values())
    if not total:
        # Who could use it counts time, whatever it did.
        return USED_IN_PARTS
    in_order = sorted((state for state in STATES if seconds.get(state)), key=lambda s: -seconds[s])
    return ", ".join(f"{state} {_percent(seconds[state] / total)}" for state in in_order)


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 1 else "< 1 %"


def _line(row: Row, gauges: Sequence[Gauge]) -> Line:
    return Line(
        start=datetime.fromisoformat(str(row["start"])),
        cells=tuple(_cell(gauge, row) for gauge in gauges),
        states=_states_text({s: float(row.get(f"{s}_seconds") or 0) for s in STATES}),
    )


def _cell(gauge: Gauge, row: Row) -> str:
    mean, low, high = (_value(gauge, row, suffix) for suffix in ("", "_min", "_max"))
    if mean is None:
        return "–"
    text = f"{mean:.{gauge.decimals}f}"
    if low is None or high is None or low == high:
        return text
    return f"{text} ({low:.{gauge.decimals}f}–{high:.{gauge.decimals}f})"


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
