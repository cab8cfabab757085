"""Ask NVML in a process of its own: a driver call may hang for ever or take its process down.

Run by `services.collector.nvml` as `python -I -S nvml_child.py DIRECTORY PARENT [accounting]`,
where DIRECTORY holds `pynvml` and PARENT is the caller's pid. It imports next to nothing, so that
it stays below 20 MB and starts at once. The first line it writes says what hardware there is, or
why the driver cannot be asked; then each line read (`sweep`, or `hardware` for the first line anew)
is answered with one line of JSON. It ends when its input does, or with its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Collection
from typing import Any

# Found beside the folder that this file is in: nothing else says where we are installed.
sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from services.collector.nvml_events import Events
from services.collector.nvml_processes import PROCESS_LISTS, Accounts, Share, known, listed, shares
from services.collector.nvml_questions import (
    DEAR_QUESTIONS,
    FATAL,
    FUNCTION_NOT_FOUND,
    INVALID_ARGUMENT,
    LOST,
    NOT_SUPPORTED,
    QUESTIONS,
    SENTINELS,
    Question,
    memory,
    text_of,
)

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
UNSUPPORTED_SECONDS = 300.0
"""What a GPU does not support is asked again after this; a driver may learn it."""
SHARES_SECONDS = 5.0
ACCOUNTS_SECONDS = 5.0

Values = dict[str, Any]


class Gpu:
    """One GPU or MIG device; what it does not support is remembered."""

    def __init__(self, nvml: Any, handle: Any, facts: Values, *, accounting: bool) -> None:
        self._nvml = nvml
        self.handle = handle
        self.facts = facts
        self.gpu: str = facts["gpu"]
        self._values: Values = {}
        self._problems: dict[str, str] = {}
        self._due: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._shares: dict[int, Share] = {}
        # The driver reports what happens to a MIG device with its GPU.
        self._events = None if facts["parent"] else Events(nvml, handle)
        self._wants_accounts = accounting and not facts["parent"]
        self._accounts: Accounts | None = None

    def sweep(self, now: float) -> Values:
        """Return everything about it; raise NVMLError only for what ends the whole process."""
        events = self._events.take() if self._events else []
        if events:
            # Whatever happened, what is known of its health is old.
            self._due = {}
        ended: list[Values] = []
        try:
            for question in QUESTIONS:
                self._ask(question, now)
            processes = self._processes(now)
            ended = self._ended(processes, now)
            lost = None
        except self._nvml.NVMLError as error:
            if error.value in FATAL:
                raise
            processes, lost = None, str(error)
            self._values, self._problems, self._due, self._asked = {}, {}, {}, {}
        deaf = self._events.problem if self._events else "unsupported"
        if deaf:
            self._problems["xids"] = deaf
        else:
            self._problems.pop("xids", None)
        return {
            "gpu": self.gpu,
            "index": self.facts["index"],
            "values": self._values,
            "problems": self._problems,
            "ages": {
                name: int(now - asked)
                for name, asked in self._asked.items()
                if now - asked >= 1 and name in self._values
            },
            "processes": processes,
            "lost": lost,
            "events": events,
            "ended": ended,
        }

    def next_dear(self) -> tuple[float, Question]:
        """Return the dear question that is due first, and when."""
        due = ((self._due.get(one.names[0], 0.0), one) for one in DEAR_QUESTIONS)
        return min(due, key=lambda pair: pair[0])

    def ask_dear(self, question: Question, now: float) -> None:
        """Ask one; that the GPU is lost is said by the sweep."""
        try:
            self._ask(question, now)
        except self._nvml.NVMLError as error:
            if error.value in FATAL:
                raise
            self._due[question.names[0]] = now + question.seconds

    def _ask(self, question: Question, now: float) -> None:
        first = question.names[0]
        if self._due.get(first, 0.0) > now:
            return
        try:
            answers = question.ask(self._nvml, self.handle)
        except self._nvml.NVMLError as error:
            self._fail(question.names, error, now, question.seconds)
            return
        self._due[first] = now + question.seconds
        for name, value in zip(question.names, answers, strict=True):
            if value is None or value in SENTINELS:
                self._values.pop(name, None)
                self._problems[name] = "not available"
            else:
                self._values[name] = value
                self._problems.pop(name, None)
            if question.seconds:
                self._asked[name] = now

    def _fail(
        self, names: tuple[str, ...], error: Any, now: float, again_seconds: float = 0.0
    ) -> bool:
        """Note what went wrong; return whether the GPU just does not support it."""
        if error.value in FATAL + LOST:
            raise error
        # Of a MIG device some functions say that it is no GPU they could be asked about.
        is_no_gpu = error.value == INVALID_ARGUMENT and self.facts["parent"] is not None
        unsupported = is_no_gpu or error.value in (NOT_SUPPORTED, FUNCTION_NOT_FOUND)
        for name in names:
            self._values.pop(name, None)
            self._problems[name] = "unsupported" if unsupported else text_of(error)
        self._due[names[0]] = now + (UNSUPPORTED_SECONDS if unsupported else again_seconds)
        return unsupported

    def _processes(self, now: float) -> list[Values] | None:
        """Return who the driver lists, each pid once; None if it does not say."""
        found: dict[int, Values] = {}
        answered = False
        for kind, function in PROCESS_LISTS:
            if self._due.get(kind, 0.0) > now:
                continue
            try:
                entries = listed(self._nvml, self.handle, function)
            except self._nvml.NVMLError as error:
                if not self._fail((kind,), error, now):
                    return None
                continue
            answered = True
            self._problems.pop(kind, None)
            for one in entries:
                # NVML lists a process twice when it uses both graphics and compute.
                entry = found.setdefault(one.pid, {"pid": one.pid, "kinds": [], "memory": None})
                entry["kinds"].append(kind)
                size = known(one.usedGpuMemory)
                if size is not None:
                    entry["memory"] = max(size, entry["memory"] or 0)
        if found:
            self._ask_shares(found.keys(), now)
        for entry in found.values():
            entry["share"] = self._shares.get(entry["pid"])
        return list(found.values()) if answered else None

    def _ask_shares(self, pids: Collection[int], now: float) -> None:
        if self._due.get("process_utilization", 0.0) > now:
            return
        self._due["process_utilization"] = now + SHARES_SECONDS
        self._shares = {}
        try:
            told = shares(self._nvml, self.handle, SHARES_SECONDS)
            # Who was there and is not in the answer has not computed.
            self._shares = {pid: told.get(pid, (0, 0, 0, 0)) for pid in pids}
            self._problems.pop("process_utilization", None)
        except self._nvml.NVMLError as error:
            self._fail(("process_utilization",), error, now, SHARES_SECONDS)

    def _ended(self, processes: list[Values] | None, now: float) -> list[Values]:
        """Return who has ended by the driver's accounting, where that is wanted."""
        is_due = self._due.get("accounting", 0.0) <= now
        if not (self._wants_accounts and is_due) or processes is None:
            return []
        running = {process["pid"] for process in processes}
        self._due["accounting"] = now + ACCOUNTS_SECONDS
        try:
            if self._accounts is None:
                self._accounts = Accounts(self._nvml, self.handle, running)
            ended = self._accounts.ended(running)
            self._problems.pop("accounting", None)
        except self._nvml.NVMLError as error:
            self._fail(("accounting",), error, now, UNSUPPORTED_SECONDS)
            return []
        return ended


class Driver:
    """NVML, opened once; a new process is the only way to open it anew."""

    def __init__(self, nvml: Any, *, accounting: bool) -> None:
        self._nvml = nvml
        self._accounting = accounting
        self.missing: dict[str, str] = {}
        self._count = 0
        self._parents: list[Gpu] = []
        self._instances: list[Gpu] = []

    @property
    def gpus(self) -> list[Gpu]:
        """All GPUs, and then all MIG devices."""
        return self._parents + self._instances

    def open(self) -> Values:
        """Open NVML and return what hardware there is."""
        nvml = self._nvml
        nvml.nvmlInit()
        self._count = nvml.nvmlDeviceGetCount()
        for index in range(self._count):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                self._parents.append(self._gpu(handle, self._facts(handle, index)))
            except nvml.NVMLError as error:
                if error.value in FATAL:
                    raise
                self.missing[str(index)] = str(error)
        return self.hardware()

    def hardware(self) -> Values:
        """Return what hardware there is; MIG devices come and go by the administrator's will."""
        instances: list[Gpu] = []
        for parent in self._parents:
            instances += self._mig_devices(parent, {*self._instances, *instances})
        self._instances = instances
        return {
            "driver_version": self._try(self._nvml.nvmlSystemGetDriverVersion),
            "gpus": [gpu.facts for gpu in self.gpus],
            "missing": self.missing,
        }

    def sweep(self) -> Values:
        """Return everything about every GPU."""
        now = time.monotonic()
        dear = [(*gpu.next_dear(), gpu) for gpu in self.gpus]
        if dear:
            due, question, gpu = min(dear, key=lambda one: one[0])
            if due <= now:
                gpu.ask_dear(question, now)
        return {"sweep": [gpu.sweep(now) for gpu in self.gpus]}

    def _gpu(self, handle: Any, facts: Values) -> Gpu:
        return Gpu(self._nvml, handle, facts, accounting=self._accounting)

    def _facts(self, handle: Any, index: int, parent: str | None = None) -> Values:
        nvml = self._nvml
        pci = None if parent else self._try(nvml.nvmlDeviceGetPciInfo, handle)
        found = self._try(memory, nvml, handle)
        limit = None if parent else self._try(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        return {
            "gpu": _string(nvml.nvmlDeviceGetUUID(handle)),
            "index": index,
            "minor": None if parent else self._try(nvml.nvmlDeviceGetMinorNumber, handle),
            "name": _string(self._try(nvml.nvmlDeviceGetName, handle)),
            "memory_total_bytes": found[1] if found else None,
            "power_limit_watts": None if limit in (None, *SENTINELS) else limit / 1000,
            "pci_bus_id": _string(pci.busId) if pci else None,
            "parent": parent,
            "schedulable": True,
        }

    def _mig_devices(self, parent: Gpu, others: set[Gpu]) -> list[Gpu]:
        """Return the MIG devices of a GPU; those that are known keep their index."""
        nvml = self._nvml
        known = {one.gpu: one for one in self._instances if one.facts["parent"] == parent.gpu}
        try:
            mode, _ = nvml.nvmlDeviceGetMigMode(parent.handle)
        except nvml.NVMLError as error:
            if error.value in FATAL:
                raise
            # It has no such mode, or cannot be asked just now: then nothing is known to be new.
            return list(known.values())
        parent.facts["schedulable"] = mode != 1
        if mode != 1:
            return []
        found: list[Gpu] = []
        for number in range(self._try(nvml.nvmlDeviceGetMaxMigDeviceCount, parent.handle) or 0):
            handle = self._try(nvml.nvmlDeviceGetMigDeviceHandleByIndex, parent.handle, number)
            gpu = handle and _string(self._try(nvml.nvmlDeviceGetUUID, handle))
            if gpu in known:
                known[gpu].handle = handle
                found.append(known[gpu])
            elif gpu:
                index = _free(self._count, {one.facts["index"] for one in (*others, *found)})
                found.append(self._gpu(handle, self._facts(handle, index, parent.gpu)))
        return found

    def _try(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except self._nvml.NVMLError as error:
            if error.value in FATAL:
                raise
            return None


def _free(first: int, used: set[int]) -> int:
    return first if first not in used else _free(first + 1, used)


def _string(value: Any) -> str | None:
    """Older bindings answer with bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)


def main() -> None:
    """Answer until the input ends."""
    directory, parent = sys.argv[1], int(sys.argv[2])
    _die_with(parent)
    # So that it is known as what it is, and not as some Python: a collector beside us (or
    # `gleaner capture`) must not take it for a stranger.
    ctypes.CDLL(None).prctl(PR_SET_NAME, os.path.basename(__file__).encode(), 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A library that prints must not print into our answers.
    answers = os.dup(1)
    os.dup2(2, 1)

    def say(answer: Values) -> None:
        line = json.dumps(answer, separators=(",", ":")).encode() + b"\n"
        while line:
            line = line[os.write(answers, line) :]

    sys.path.append(directory)
    try:
        import pynvml
    except ImportError as error:
        say({"problem": f"the Python module pynvml cannot be loaded: {error}", "code": 12})
        return
    driver = Driver(pynvml, accounting="accounting" in sys.argv[3:])
    try:
        say(driver.open())
        for line in sys.stdin:
            say(driver.hardware() if line == "hardware\n" else driver.sweep())
    except pynvml.NVMLError as error:
        say({"problem": str(error), "code": error.value})


if __name__ == "__main__":
    main()
