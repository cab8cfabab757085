"""One GPU as the NVML child knows it: what was asked when, what it answered, and what it lacks.

Part of the NVML child, which imports nothing else of ours.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from services.collector.nvml.events import Events
from services.collector.nvml.processes import PROCESS_LISTS, Accounts, Share, known, listed, shares
from services.collector.nvml.questions import (
    DEAR_QUESTIONS,
    FATAL,
    FUNCTION_NOT_FOUND,
    INVALID_ARGUMENT,
    LOST,
    NOT_SUPPORTED,
    QUESTIONS,
    SENTINELS,
    Question,
    text_of,
)

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
