"""One child process of `gleaner up`: started, started again when it dies, and ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gleaner.runtime import EXIT_SETTINGS

BACKOFF_SECONDS = (0.2, 30.0)
LASTING_SECONDS = 10.0
"""A child that lived this long starts again at once when it dies."""
_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a child is: its name for people, its command and who runs it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path | None = None
    user: tuple[int, int] | None = None
    """User and group id to run as, if we may choose."""
    grace_seconds: float = 10.0
    """Between TERM and KILL when it is told to end."""


def backoff_seconds(failures: int) -> float:
    """Return how long to wait before the next start after so many short lives in a row."""
    first, longest = BACKOFF_SECONDS
    return min(longest, first * 2.0 ** min(failures, 20))


def describe_exit(code: int) -> str:
    """Say how a process ended."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with status {code}"


class Child:
    """Keeps one program running until it is stopped.

    The child has a session of its own, so Ctrl-C in the terminal does not reach it: who stops
    first is for us to say. When we die, however we die, the kernel sends it TERM.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.gave_up = False
        """It does not start with these settings; trying again would not help."""
        self._process: subprocess.Popen[bytes] | None = None
        self._handle = -1
        self._ended = asyncio.Event()
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process else None

    async def keep(self) -> None:
        """Run it, again and again, until `stop`."""
        failures = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            if code == EXIT_SETTINGS:
                self.gave_up = True
                tell(f"{self.program.name} does not start with these settings, see above")
                return
            failures = 0 if time.monotonic() - started > LASTING_SECONDS else failures + 1
            wait = backoff_seconds(failures - 1) if failures else 0.0
            again = f"starting it again in {wait:g} s" if wait else "starting it again"
            tell(f"{self.program.name} {describe_exit(code)}; {again}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)

    async def stop(self, hurry: asyncio.Event) -> None:
        """End it: TERM, then KILL when its grace is over or somebody is in a hurry."""
        self._stopping.set()
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        waiting = [asyncio.create_task(self._ended.wait()), asyncio.create_task(hurry.wait())]
        await asyncio.wait(
            waiting, timeout=self.program.grace_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for task in waiting:
            task.cancel()
        if not self._ended.is_set():
            tell(f"{self.program.name} did not end in time: killed")
            self._signal(signal.SIGKILL)
            await self._ended.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    async def _run_once(self) -> int:
        try:
            process = self._start()
        except OSError as error:
            tell(f"{self.program.command[0]}: {error.strerror}")
            return 127
        self._process = process
        self._ended.clear()
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        self._handle = os.pidfd_open(process.pid)
        try:
            loop.add_reader(self._handle, ended.set)
            await ended.wait()
        finally:
            loop.remove_reader(self._handle)
            os.close(self._handle)
            if self._stopping.is_set():
                # What it left in its session; its pid is ours until we have waited for it.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        self._process = None
        self._ended.set()
        return code

    def _start(self) -> subprocess.Popen[bytes]:
        parent = os.getpid()

        def die_with_parent() -> None:
            # After the change of user, which clears it; TERM, so that runs end in order.
            _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        user, group = self.program.user or (None, None)
        return subprocess.Popen(
            self.program.command,
            stdin=subprocess.DEVNULL,
            cwd=self.program.directory,
            env=dict(self.program.environment),
            user=user,
            group=group,
            extra_groups=None if group is None else [],
            start_new_session=True,
            preexec_fn=die_with_parent,
        )


def tell(text: str) -> None:
    """Say something to whoever started `gleaner up`."""
    print(f"gleaner up: {text}", file=sys.stderr, flush=True)
