"""NVML behind a disposable child process: a hung or crashed driver call becomes a named fact.

One child at a time, and never a second one while the first is stuck in the driver: the second
would get stuck as well. The child is killed when it does not answer in time, and a new one is
started when it is really gone, with back-off; a new process is also the only way to go on after
a driver was upgraded.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from gleaner.bus.messages import GpuReading, HostReading
from services.collector.host import Host
from services.collector.interface import GpuSweep, Hardware, SourceName, Sweep
from services.collector.nvml import answers
from services.collector.nvml.answers import Answer

logger = logging.getLogger(__name__)

CHILD = Path(__file__).with_name("nvml_child.py")
START_SECONDS = 60.0
"""Opening the driver may take seconds per GPU where persistence mode is off."""
BACKOFF_SECONDS = (1.0, 30.0)
HARDWARE_SECONDS = 30.0
"""How often it is looked for MIG devices that were made or taken apart."""
HEALTHY_SECONDS = 60.0
"""A child that lived this long forgets earlier failures."""
OPENING = "the driver is being opened"
LINE_BYTES = 16 * 1024 * 1024


class NvmlSource:
    """See `Source`; `on_answer` hears every raw answer, for captures."""

    name: SourceName = "nvml"

    def __init__(
        self,
        deadline_seconds: float,
        device_directory: Path,
        on_answer: Callable[[Answer], None] | None = None,
        *,
        accounting: bool = False,
    ) -> None:
        self._deadline = deadline_seconds
        self._device_directory = device_directory
        self._on_answer = on_answer
        self._arguments = ("accounting",) if accounting else ()
        self._host = Host()
        self._child: Process | None = None
        self._pidfd = -1
        self._hello: asyncio.Task[bytes] | None = None
        self._started_at = 0.0
        self._stuck = False
        self._gave_up = False
        self._refused = False
        self._failures = 0
        self._start_at = 0.0
        self._problem: str | None = OPENING
        self._hardware = Hardware(
            gpus=(), driver_version=None, problem=None, limitations=(), devices={}
        )
        self._missing: tuple[str, ...] = ()
        self._session = 0
        self._look_at = 0.0
        self.not_installed = False
        """Whether the last child found no library, or no driver loaded."""

    @property
    def child_pid(self) -> int | None:
        """The child that is alive, if any."""
        return self._child.pid if self._child and self._child.returncode is None else None

    async def hardware(self) -> Hardware:
        """See `Source`; remembers GPUs that a later child no longer finds."""
        await self._ready()
        return replace(self._hardware, problem=self._problem)

    async def sweep(self) -> Sweep:
        """See `Source`."""
        until = time.monotonic() + self._deadline
        if await self._ready() and await self._look_again():
            answer = await self._ask("sweep", max(until - time.monotonic(), self._deadline / 2))
            if answer is not None:
                found = answers.sweep(answer, self._hardware.gpus)
                gpus = (*found.gpus, *self._lost())
                return replace(found, gpus=gpus, session=self._session)
        return Sweep(gpus=(), problem=self._problem)

    async def host(self) -> HostReading:
        """See `Source`."""
        return self._host.read()

    async def close(self) -> None:
        """End the child; one that is stuck in the driver is left to die when it can."""
        child = self._child
        if self._hello is not None:
            self._hello.cancel()
        if child is None:
            return
        _kill(self._pidfd)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), 1)
        _close(self._pidfd)
        child._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - closes the pipes
        await asyncio.sleep(0)
        self._child = None

    async def _ready(self) -> bool:
        """Have a child that has opened the driver; False, with `_problem` set, if there is none."""
        if self._child is not None and self._child.returncode is not None:
            self._bury(self._child)
        if self._child is None and time.monotonic() >= self._start_at:
            try:
                await self._start()
            except OSError as error:
                self._back_off()
                self._say(f"no process to ask the driver can be started: {error}")
        if self._child is None or self._stuck:
            return False
        return self._hello is None or await self._greet(self._hello)

    async def _look_again(self) -> bool:
        """Ask for the hardware when that is due; False if there is no answer."""
        if time.monotonic() < self._look_at:
            return True
        answer = await self._ask("hardware", self._deadline / 2)
        if answer is not None:
            self._take_in(answer)
        return answer is not None

    async def _start(self) -> None:
        found = importlib.util.find_spec("pynvml")
        directory = str(Path(found.origin).parent) if found and found.origin else ""
        self._started_at = time.monotonic()
        # -I and -S: nothing of the environment or of site-packages is imported on the way.
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(CHILD), directory, str(os.getpid()), *self._arguments,
            stdin=PIPE, stdout=PIPE, limit=LINE_BYTES,
        )  # fmt: skip
        self._pidfd = _pidfd_of(self._child)
        assert self._child.stdout
        self._hello = asyncio.create_task(self._child.stdout.readline(), name="NVML child's hello")

    async def _greet(self, hello: asyncio.Task[bytes]) -> bool:
        """Take in the child's first line, if it comes in time."""
        await asyncio.wait({hello}, timeout=self._deadline / 4)
        if not hello.done():
            if time.monotonic() - self._started_at > START_SECONDS:
                self._give_up_on_child()
            return False
        self._hello = None
        answer = await self._understand(hello.result())
        if answer is None:
            return False
        self._take_in(answer)
        self._session += 1
        self._say(None)
        return True

    def _take_in(self, answer: Answer) -> None:
        """Know what hardware there is, and when to look again."""
        self._look_at = time.monotonic() + HARDWARE_SECONDS
        found = answers.hardware(answer, self._device_directory)
        known = {gpu.gpu for gpu in found.gpus}
        # MIG devices come and go by the administrator's will; a GPU does not.
        gone = [gpu for gpu in self._hardware.gpus if gpu.gpu not in known and gpu.parent is None]
        self._missing = tuple(gpu.gpu for gpu in gone)
        self._hardware = replace(found, gpus=(*found.gpus, *gone))

    async def _ask(self, question: str, seconds: float) -> Answer | None:
        child = self._child
        assert child
        assert child.stdin
        assert child.stdout
        try:
            async with asyncio.timeout(seconds):
                child.stdin.write(question.encode() + b"\n")
                line = await child.stdout.readline()
        except TimeoutError:
            self._give_up_on_child()
            return None
        except ConnectionError:
            line = b""
        return await self._understand(line)

    async def _understand(self, line: bytes) -> Answer | None:
        """Return a child's answer; None, with `_problem` set, if it gave up or ended."""
        if not line.endswith(b"\n"):
            await self._expect_end()
            return None
        answer: Answer = json.loads(line)
        if self._on_answer:
            self._on_answer(answer)
        refused = answers.refusal(answer)
        self.not_installed = refused is not None and refused.not_installed
        if refused is None:
            return answer
        self._refused = True
        self._say(refused.text)
        return None

    async def _expect_end(self) -> None:
        """Wait a moment for a child that has closed its pipe; the driver may still hold it."""
        assert self._child
        self._stuck = True
        _kill(self._pidfd)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._child.wait(), 0.5)
        if self._child.returncode is not None:
            self._bury(self._child)
        else:
            self._say("the process that asks the driver cannot end: the driver holds it")

    def _give_up_on_child(self) -> None:
        assert self._child
        self._stuck = self._gave_up = True
        self._say(f"the driver has not answered since {datetime.now(UTC):%H:%M:%S} UTC")
        _kill(self._pidfd)

    def _bury(self, child: Process) -> None:
        """Note that a child has ended, and when the next one may start."""
        if time.monotonic() - self._started_at >= HEALTHY_SECONDS:
            self._failures = 0
        self._back_off()
        if not (self._refused or self._gave_up):
            self._say(f"the process that asks the driver {_how_it_ended(child.returncode)}")
        if self._hello is not None:
            self._hello.cancel()
        if child.stdin:
            child.stdin.close()
        _close(self._pidfd)
        self._child, self._hello = None, None
        self._stuck = self._gave_up = self._refused = False

    def _back_off(self) -> None:
        low, high = BACKOFF_SECONDS
        # The exponent is bounded, or the number would grow for months.
        self._start_at = time.monotonic() + min(high, low * 2 ** min(self._failures, 10))
        self._failures += 1

    def _lost(self) -> list[GpuSweep]:
        return [
            GpuSweep(
                gpu=gpu.gpu,
                processes=None,
                reading=GpuReading(gpu=gpu.gpu, index=gpu.index),
                lost="the driver no longer lists it",
            )
            for gpu in self._hardware.gpus
            if gpu.gpu in self._missing
        ]

    def _say(self, problem: str | None) -> None:
        if problem != self._problem and problem is not None:
            logger.warning("GPUs cannot be asked: %s", problem)
        self._problem = problem


def _pidfd_of(child: Process) -> int:
    """Return a handle on a child; -1 if it has ended already."""
    with contextlib.suppress(ProcessLookupError):
        return os.pidfd_open(child.pid)
    return -1


def _close(pidfd: int) -> None:
    if pidfd >= 0:
        os.close(pidfd)


def _kill(pidfd: int) -> None:
    # Not by Popen.kill: it may reap the process, and then asyncio never learns how it ended.
    if pidfd < 0:
        return
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _how_it_ended(status: int | None) -> str:
    if status is not None and status < 0:
        return f"was ended by signal {-status}"
    return f"ended with status {status}"
