"""Roll-ups: what many samples of a GPU, or of a host, come to; pure.

Everything is a sum, a count of seconds, a minimum or a maximum, so that five minutes add up to
hours, days and months exactly. Gauges are weighted by the seconds a sample stands for: a mean is
`NAME_sum / NAME_seconds`, right also where the interval of samples changed, and nothing at all
where nobody knew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from gleaner.bus.messages import GpuCondition
from gleaner.figures import GAUGES, HOST_GAUGES
from services.recorder.values.local_time import LocalTime
from services.recorder.values.units import whole

Row = Mapping[str, Any]
Totals = dict[str, Any]

STATES = tuple(state.value for state in GpuCondition)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is summed up of one kind of thing."""

    gauges: tuple[str, ...]
    states: tuple[str, ...]
    """Each sample has one: its seconds are the sum of these. The last is that of what is none."""
    has_energy: bool

    @cached_property
    def known(self) -> tuple[str, ...]:
        """For how long what was known."""
        energy = ("energy_seconds",) if self.has_energy else ()
        return (*energy, *(f"{gauge}_seconds" for gauge in self.gauges))

    @cached_property
    def sums(self) -> tuple[str, ...]:
        """Everything that adds up, all seconds included."""
        return (
            "samples",
            "seconds",
            *(f"{state}_seconds" for state in self.states),
            *(("energy_joules",) if self.has_energy else ()),
            *(f"{gauge}_sum" for gauge in self.gauges),
            *self.known,
        )


GPU = Kind(gauges=GAUGES, states=STATES, has_energy=True)
HOST = Kind(gauges=HOST_GAUGES, states=("recorded",), has_energy=False)


@dataclass(frozen=True, kw_only=True)
class Tier:
    """One resolution."""

    name: str
    width: timedelta
    """About: days and months of the time zone have different lengths."""


FIVE_MINUTES = Tier(name="5m", width=timedelta(minutes=5))
HOUR = Tier(name="1h", width=timedelta(hours=1))
DAY = Tier(name="1d", width=timedelta(days=1))
MONTH = Tier(name="1mo", width=timedelta(days=30))
TIERS = (FIVE_MINUTES, HOUR, DAY, MONTH)
"""From the finest; five minutes are of UTC, the others of the time zone."""


def slot_of(at: datetime) -> datetime:
    """Return the beginning of the five minutes a sample belongs to.

    A sample stands for the time that ends at it, so one on the boundary belongs before it.
    """
    return start_of(at - _MICROSECOND, FIVE_MINUTES.width)


def start_of(at: datetime, width: timedelta) -> datetime:
    """Return the last boundary of UTC that is not after an instant."""
    return _EPOCH + (at - _EPOCH) // width * width


def end_of(at: datetime) -> datetime:
    """Return the first boundary of five minutes that is not before an instant."""
    return start_of(at + FIVE_MINUTES.width - _MICROSECOND, FIVE_MINUTES.width)


def start_in(tier: Tier, slot: datetime, local: LocalTime) -> datetime:
    """Return when the bucket of a tier began that five minutes belong to."""
    match tier.name:
        case "1h":
            return local.hour_of(slot)
        case "1d":
            return local.day_of(slot)
        case "1mo":
            return local.month_of(slot)
        case _:
            return slot


def of_samples(samples: Iterable[Row], kind: Kind = GPU) -> Totals:
    """Return what samples come to; the time of what is not usable is nobody's (see `mig`)."""
    totals = _nothing(kind)
    for sample in samples:
        seconds = sample["seconds"]
        is_usable = sample.get("is_usable", True)
        state = sample.get("state")
        totals["samples"] += 1
        if is_usable:
            totals["seconds"] += seconds
            totals[f"{state if state in kind.states else kind.states[-1]}_seconds"] += seconds
        if kind.has_energy and (energy := energy_of(sample)) is not None:
            totals["energy_joules"] += energy
            totals["energy_seconds"] += seconds
        for gauge in kind.gauges:
            value = sample[gauge]
            if value is not None:
                totals[f"{gauge}_sum"] += value * seconds
                totals[f"{gauge}_seconds"] += seconds
                _widen(totals, gauge, value, value)
    return whole(totals)


def of_totals(parts: Iterable[Row], kind: Kind = GPU) -> Totals:
    """Return what buckets come to together."""
    totals = _nothing(kind)
    for part in parts:
        for name in kind.sums:
            totals[name] += part[name]
        for gauge in kind.gauges:
            if part[f"{gauge}_min"] is not None:
                _widen(totals, gauge, part[f"{gauge}_min"], part[f"{gauge}_max"])
    return totals


def less(now: Row, before: Row, kind: Kind = GPU) -> Totals:
    """Return what is new in totals of samples that only ever come in addition."""
    return {
        name: value - before[name] if name in kind.sums else value for name, value in now.items()
    }


def energy_of(sample: Row) -> float | None:
    """Return the energy a sample stands for: by the counter, else by the power at its end."""
    if sample["energy_used_joules"] is not None:
        return float(sample["energy_used_joules"])
    return None if sample["power_watts"] is None else sample["power_watts"] * sample["seconds"]


def _nothing(kind: Kind) -> Totals:
    limits = (f"{gauge}_{what}" for gauge in kind.gauges for what in ("min", "max"))
    return dict.fromkeys(kind.sums, 0) | dict.fromkeys(limits)


def _widen(totals: Totals, gauge: str, low: float, high: float) -> None:
    if totals[f"{gauge}_min"] is None or low < totals[f"{gauge}_min"]:
        totals[f"{gauge}_min"] = low
    if totals[f"{gauge}_max"] is None or high > totals[f"{gauge}_max"]:
        totals[f"{gauge}_max"] = high
