"""Find out who opened a device, when the kernel says that somebody did."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from services.collector.interface import Notice, Process, Processes

SLICE_SECONDS = 0.01
"""The search goes on after whatever else is due: a beat, a person's key."""
RETRY_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.03)
"""The kernel tells of an open before the process has its descriptor."""
RESCAN_SHARE = 5
"""After a search of all processes, this many times as long passes before the next."""
SEARCHES = 2
"""How many passes search for who opened a device once: the first may come too early, or have come
to the process already."""


class Opens:
    """Looks at whom a notice names, or searches all processes where it names nobody."""

    def __init__(
        self,
        processes: Processes,
        *,
        devices: Callable[[], Mapping[str, Path]],
        is_known: Callable[[Path, int | None], bool],
        found: Callable[[Process, Notice], None],
        own_pids: Callable[[], Collection[int]],
    ) -> None:
        """Store what is asked; `found` hears of each process that holds a device.

        `is_known` tells whether nothing new can be found at a device: it is busy anyway, or (with
        a pid) held by this very process.
        """
        self._processes = processes
        self._devices = devices
        self._is_known = is_known
        self._found = found
        self._own_pids = own_pids
        self._looking: set[int] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._rescan_at = 0.0
        self._took = 0.0
        self._searches_later = False
        self._sought: dict[Path, tuple[Notice, int]] = {}

    def on_notice(self, notice: Notice) -> None:
        """Look at once at who opened a device; nothing here waits for anything."""
        if notice.pid is None:
            self._search(notice)
        elif notice.pid not in self._looking and notice.pid not in self._own_pids():
            self._look(notice, notice.pid, 0)

    def close(self) -> None:
        """Forget what was to be looked at."""
        for timer in self._timers:
            timer.cancel()

    def _look(self, notice: Notice, pid: int, attempt: int) -> None:
        """Say busy if a stranger holds the device; if it does not show yet, look again soon."""
        self._looking.discard(pid)
        if self._is_known(notice.path, pid):
            return
        process = self._processes.identify(pid)
        if process is None:
            return
        if self._at_least_one_held(notice.path, self._processes.holds(pid)):
            self._found(process, notice)
        elif attempt < len(RETRY_SECONDS):
            self._looking.add(pid)
            self._later(RETRY_SECONDS[attempt], lambda: self._look(notice, pid, attempt + 1))

    def _at_least_one_held(self, path: Path, held: frozenset[str]) -> bool:
        devices = self._devices()
        return any(devices.get(gpu) == path for gpu in held)

    def _search(self, notice: Notice) -> None:
        """Find out who opened a device when the kernel does not say who it was."""
        self._sought[notice.path] = (notice, SEARCHES)
        self._search_soon()

    def _search_soon(self) -> None:
        if not self._searches_later:
            self._searches_later = True
            self._later(max(0.0, self._rescan_at - time.monotonic()), self._search_later)

    def _search_later(self) -> None:
        self._searches_later = False
        self._search_now()

    def _search_now(self) -> None:
        """Look through all processes for those who opened something, for all devices at once."""

        def still() -> dict[Path, tuple[Notice, int]]:
            return {
                path: (notice, searches)
                for path, (notice, searches) in self._sought.items()
                if searches and not self._is_known(path, None)
            }

        def is_enough(pid: int, held: frozenset[str]) -> bool:
            for path, (notice, _) in self._sought.items():
                if self._at_least_one_held(path, held):
                    self._look(notice, pid, len(RETRY_SECONDS))
            return not still()

        self._sought = still()
        if not self._sought:
            return
        started = time.monotonic()
        # The newest processes come first, and the search ends when all strangers are found.
        is_through = self._processes.scan(SLICE_SECONDS, is_enough, hurry=True)
        now = time.monotonic()
        self._took += now - started
        # Not found: it was one of ours, or we came before the descriptor, or are not through yet.
        self._sought = {
            path: (notice, left - is_through) for path, (notice, left) in still().items()
        }
        if is_through or not self._sought:
            self._rescan_at, self._took = now + self._took * RESCAN_SHARE, 0.0
        if self._sought:
            self._search_soon()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            call()

        timer = asyncio.get_running_loop().call_later(seconds, fire)
        self._timers.add(timer)
