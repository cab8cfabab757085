"""What the collector says besides states: inventory, telemetry, samples and problems."""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

from gleaner import __version__
from gleaner.bus.local import NodeBus
from gleaner.bus.messages import (
    EventKind,
    GpuInventory,
    GpuReading,
    GpuState,
    HostReading,
    HostSample,
    Inventory,
    Sample,
    Samples,
    Telemetry,
)
from gleaner.runtime import boot_id
from gleaner.settings import NodeSettings
from services.collector.busy import Evidence, unattributed_bytes
from services.collector.host_samples import HostSamples
from services.collector.interface import Hardware, Notices, Source
from services.collector.processes.holding import users_of

MINUTE_SECONDS = 60.0

Seen = tuple[GpuInventory, GpuState | None, Evidence]
PeopleBy = Literal["fanotify", "inotify", "atime", "script", "nothing"]


class Sight(Protocol):
    """How well people are seen."""

    @property
    def notices_people_by(self) -> PeopleBy:
        """How their input is noticed."""
        ...

    def limitations(self) -> tuple[str, ...]:
        """Return what is not seen and what that costs, one sentence each."""
        ...


class Reports:
    """Publishes and records what is due; nothing that has not changed."""

    def __init__(
        self,
        bus: NodeBus,
        settings: NodeSettings,
        source: Source,
        notices: Notices,
        people: Sight | None,
        limitations: tuple[str, ...],
    ) -> None:
        self._bus = bus
        self._settings = settings
        self._source = source
        self._notices = notices
        self._people = people
        self._limitations = limitations
        self._host = socket.gethostname()
        self._boot_id = boot_id()
        self._inventory: Inventory | None = None
        self._known: object = None
        self._problem: str | None = None
        self._telemetry_at = 0.0
        # A sample stands for the time before it: who has just started has not seen any, and what
        # was before it stopped is counted already.
        self._sample_at = time.monotonic() + settings.gpu.sample_seconds
        self._minute_at = time.monotonic() + MINUTE_SECONDS
        self._samples: list[Sample] = []
        self._host_samples: list[HostSample] = []
        self._host_read = HostSamples()
        self._counters: dict[str, float] = {}

    def hardware(self, hardware: Hardware, unheard: tuple[Path, ...], *, sees_others: bool) -> None:
        """Publish the inventory if anything in it is new."""
        people = self._people.notices_people_by if self._people else "nothing"
        limitations = (
            *hardware.limitations,
            *self._limitations,
            *(self._people.limitations() if self._people else ()),
            *self._blindness(unheard, sees_others=sees_others),
        )
        known = (hardware, unheard, people, limitations)
        if known == self._known:
            return
        self._known = known
        started = self._inventory is None
        self._inventory = Inventory(
            node=self._bus.node,
            host=self._host,
            boot_id=self._boot_id,
            agent_version=__version__,
            source=self._source.name,
            driver_version=hardware.driver_version,
            driver_problem=hardware.problem,
            gpus=hardware.gpus,
            # An open that is heard says nothing where the process behind it cannot be looked at.
            notices_opens_by=self._notices.by if sees_others and not unheard else "check",
            notices_people_by=people,
            limitations=limitations,
            labels=self._settings.labels,
            at=datetime.now(UTC),
        )
        self._bus.publish(self._inventory)
        if started:
            self._bus.record(
                EventKind.NODE_STARTED,
                {
                    "version": __version__,
                    "source": self._source.name,
                    "gpus": [gpu.gpu for gpu in hardware.gpus],
                    "uptime_seconds": int(time.clock_gettime(time.CLOCK_BOOTTIME)),
                },
            )

    def problem(self, problem: str | None) -> None:
        """Record that the driver stopped or began to answer."""
        if problem != self._problem:
            self._problem = problem
            text = problem or "the driver answers again"
            self._bus.record(EventKind.PROBLEM, {"what": "driver", "text": text})

    def state_changed(self) -> None:
        """Publish telemetry with the next check: readings of before would be taken for current."""
        self._telemetry_at = min(self._telemetry_at, time.monotonic())

    async def readings(self, seen: list[Seen]) -> bool:
        """Publish telemetry and keep samples when they are due; return whether samples were."""
        now = time.monotonic()
        is_telemetry, is_sample = now >= self._telemetry_at, now >= self._sample_at
        if is_telemetry or is_sample:
            # Both from one reading: two close to each other would tell of next to no time.
            host = await self._source.host()
            self._host_read.add(host, now)
            if is_telemetry:
                self._publish_readings(seen, host, now)
            if is_sample:
                self._keep_samples(seen, now)
        if now >= self._minute_at:
            self._minute_at = _next(self._minute_at, now, MINUTE_SECONDS)
            self._record_samples()
        return is_sample

    def close(self) -> None:
        """Keep the samples of the unfinished minute."""
        self._record_samples()

    def _publish_readings(self, seen: list[Seen], host: HostReading, now: float) -> None:
        seconds = self._settings.gpu.telemetry_seconds
        self._telemetry_at = _next(self._telemetry_at, now, seconds)
        self._bus.publish(
            Telemetry(
                node=self._bus.node,
                gpus=tuple(self._reading(gpu, evidence) for gpu, _, evidence in seen),
                host=host,
                interval_seconds=seconds,
                at=datetime.now(UTC),
            )
        )

    def _keep_samples(self, seen: list[Seen], now: float) -> None:
        seconds = self._settings.gpu.sample_seconds
        self._sample_at = _next(self._sample_at, now, seconds)
        self._samples += [self._sample(*one, seconds) for one in seen]
        of_host = self._host_read.take(datetime.now(UTC), seconds)
        if of_host is not None:
            self._host_samples.append(of_host)

    def _record_samples(self) -> None:
        if self._samples or self._host_samples:
            samples = Samples(samples=tuple(self._samples), host=tuple(self._host_samples))
            self._samples, self._host_samples = [], []
            self._bus.record(EventKind.SAMPLES, samples.model_dump(mode="json"))

    def _reading(self, gpu: GpuInventory, evidence: Evidence) -> GpuReading:
        if evidence.sweep is None:
            why = {"all": evidence.problem or "no answer"}
            return GpuReading(gpu=gpu.gpu, index=gpu.index, problems=why)
        reading = evidence.sweep.reading
        unattributed = unattributed_bytes(reading.memory_used_bytes, evidence.holders)
        return reading.model_copy(update={"unattributed_memory_bytes": unattributed})

    def _sample(
        self, gpu: GpuInventory, state: GpuState | None, evidence: Evidence, seconds: float
    ) -> Sample:
        none = GpuReading(gpu=gpu.gpu, index=gpu.index)
        reading = evidence.sweep.reading if evidence.sweep else none
        return Sample(
            gpu=gpu.gpu,
            index=gpu.index,
            state=state.state.value if state else "unknown",
            at=datetime.now(UTC),
            seconds=seconds,
            utilization_percent=reading.utilization_percent,
            memory_utilization_percent=reading.memory_utilization_percent,
            memory_used_bytes=reading.memory_used_bytes,
            temperature_celsius=reading.temperature_celsius,
            power_watts=reading.power_watts,
            energy_joules=reading.energy_joules,
            sm_clock_mhz=reading.sm_clock_mhz,
            fan_percent=reading.fan_percent,
            energy_used_joules=self._energy_used(gpu.gpu, reading.energy_joules),
            users=users_of(state),
            schedulable=gpu.schedulable,
        )

    def _energy_used(self, gpu: str, counter: float | None) -> float | None:
        """Return what the counter went on by since it was read last."""
        # Told here and not from the recorded counters: only here the order of readings is certain
        # whatever the clock does, and a missed reading is made up for by the next.
        if counter is None:
            return None
        before = self._counters.get(gpu)
        self._counters[gpu] = counter
        return counter - before if before is not None and counter >= before else None

    def _blindness(self, unheard: tuple[Path, ...], *, sees_others: bool) -> tuple[str, ...]:
        found = []
        if not sees_others:
            costs = (
                "every GPU is unknown"
                if self._source.name == "device-files"
                else "only processes that the driver lists make a GPU busy"
            )
            found.append(f"without root other users' open devices cannot be seen: {costs}")
        if unheard:
            names = ", ".join(str(path) for path in unheard)
            found.append(
                f"opens of {names} are not noticed at once: "
                f"they are seen within {self._settings.gpu.check_seconds:g} s or when the driver "
                "lists the process"
            )
        return tuple(found)


def _next(due: float, now: float, every: float) -> float:
    """Return when it is due again: in step with the last time, unless that was missed."""
    return due + every if due + every > now else now + every
