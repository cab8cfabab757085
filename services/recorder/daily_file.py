"""Write the daily table: one folder for each node, one file for each local day.

A block of rows is one write, taken back if the disk takes only a part of it. What a killed
recorder left of a row is cut off before the next is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import errno
import io
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Set
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from gleaner.bus.interface import Bus, Delivery
from gleaner.bus.messages import Availability, Beat, GpuState, Inventory, Telemetry
from gleaner.fleet import Fleet
from gleaner.settings import AccountingSettings
from services.recorder import daily

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
TAIL_BYTES = 4096
SIMULATED = "SIMULATED.txt"
"""Beside the tables of a simulated node: their format has no place to say so."""
_HEARD = (Availability, Beat, GpuState, Inventory, Telemetry)


class DailyFiles:
    """Hears the fleet, and writes it down at each point of the grid."""

    def __init__(
        self,
        bus: Bus,
        directory: Path,
        minutes: int,
        zone: tzinfo | None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        with_idle: bool = False,
    ) -> None:
        self._directory = directory
        self._minutes = minutes
        self._zone = zone
        self._clock = clock
        self._with_idle = with_idle
        self._fleet = Fleet()
        self._written: dict[str, int] = {}
        """By node, the stamp of its last rows."""
        self._trouble = ""
        for message_type in _HEARD:
            bus.subscribe(message_type, self._hear)

    def _hear(self, delivery: Delivery) -> None:
        self._fleet.take(delivery, self._clock())

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Write what the last point of the grid still lacks, if it is not too late for that."""
        now = self._clock()
        point = daily.point_before(now, self._minutes, self._zone)
        if not daily.is_due(now, point):
            return
        nodes = self._fleet.nodes
        wanted = {
            name: rows
            for name, node in nodes.items()
            if self._written.get(name) != daily.stamp(point)
            and daily.has_folder(name)
            and (rows := daily.rows(node, point, now, with_idle=self._with_idle)) is not None
        }
        if wanted:
            # In a thread: a thousand files, maybe of a slow file server.
            simulated = {name for name in wanted if nodes[name].is_simulated}
            await asyncio.to_thread(self._write, wanted, simulated, point)

    def _write(
        self, wanted: Mapping[str, Iterable[daily.Row]], simulated: Set[str], point: datetime
    ) -> None:
        name, at = daily.file_name(point, self._zone), daily.stamp(point)
        trouble = ""
        for node, rows in wanted.items():
            folder = self._directory / node
            try:
                if node in simulated:
                    say_simulated(folder, node, point)
                append(folder / name, rows, at)
                self._written[node] = at
            except OSError as error:
                trouble = trouble or f"{error.filename or self._directory}: {error.strerror}"
        if trouble and not self._trouble:
            logger.warning("%s; rows are missing from it until it can be written", trouble)
        if self._trouble and not trouble:
            logger.warning("%s: can be written again", self._directory)
        self._trouble = trouble


def daily_files(bus: Bus, settings: AccountingSettings) -> DailyFiles | None:
    """Return the writer, if somebody wants such files."""
    if settings.csv_directory is None:
        return None
    zone = ZoneInfo(settings.time_zone) if settings.time_zone else None
    return DailyFiles(
        bus,
        settings.csv_directory,
        settings.csv_minutes,
        zone,
        with_idle=settings.csv_idle_gpus,
    )


def say_simulated(folder: Path, node: str, at: datetime) -> None:
    """Say beside a node's tables, once, that their rows never really happened."""
    path = folder / SIMULATED
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"From {at:%Y-%m-%d %H:%M} UTC on the GPUs of {node} were simulated: what the tables "
            "here say of that time never really happened.\n"
        )


def append(path: Path, rows: Iterable[daily.Row], stamp: int) -> None:
    """Append rows of one moment, once, all or none of them; begin the file with its heading."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        size = _whole_rows(file)
        if size and _last_stamp(file, size) == str(stamp):
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows(rows if size else [daily.HEADER, *rows])
        block = text.getvalue().encode()
        try:
            # A disk that is all but full takes the beginning, and complains only of the rest.
            if file.write(block) != len(block):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                file.truncate(size)
            raise OSError(error.errno, error.strerror, str(path)) from error


def _whole_rows(file: io.FileIO) -> int:
    """Cut off what is left of a row; return the size."""
    size = os.fstat(file.fileno()).st_size
    whole = size
    while whole:
        start = max(0, whole - TAIL_BYTES)
        end = os.pread(file.fileno(), whole - start, start).rfind(b"\n")
        if end >= 0:
            whole = start + end + 1
            break
        whole = start
    if whole != size:
        file.truncate(whole)
    return whole


def _last_stamp(file: io.FileIO, size: int) -> str:
    start = max(0, size - TAIL_BYTES)
    lines = os.pread(file.fileno(), size - start, start).splitlines()
    return lines[-1].split(b",")[0].decode(errors="replace") if lines else ""
