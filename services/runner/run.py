"""One run while it is here: its life, its processes and its fact, kept in step."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gleaner.bus.messages import Cause, CauseKind, GpuCondition, Run, RunState
from services.runner import leaving
from services.runner.facts import Facts
from services.runner.journal import RunJournal
from services.runner.launcher import NEVER_STARTED, Handle, Report
from services.runner.leaving import Life

logger = logging.getLogger(__name__)

_STUBBORN_NS = 10_000_000_000
_NOT_CLEAR = frozenset({GpuCondition.DIRTY, GpuCondition.UNKNOWN, GpuCondition.LOST})


class ManagedRun:
    """Carries out what `leaving` decides, and says each change."""

    def __init__(
        self,
        fact: Run,
        life: Life,
        spec: dict[str, Any],
        journal: RunJournal,
        publish: Callable[[Run, bool], None],
    ) -> None:
        self.fact = fact
        self.life = life
        self.spec = spec
        self.journal = journal
        self.handle: Handle | None = None
        self._publish = publish
        self._timer: asyncio.TimerHandle | None = None
        self._output_problem: str | None = None
        self._is_stubborn = False

    def attach(self, handle: Handle) -> None:
        """Take the processes of this run."""
        self.handle = handle
        self.fact = self.fact.model_copy(
            update={
                "supervisor_pid": handle.supervisor_pid,
                "supervisor_started_ticks": handle.supervisor_started_ticks,
                "cgroup": handle.cgroup,
            }
        )

    def go(self) -> None:
        """Let the workload start, unless something came in between."""
        if self.handle is not None and self.life.state is RunState.STARTING:
            self.handle.go()

    def decide_to_leave(self, cause: Cause, noticed_ns: int) -> bool:
        """Write the cause into the journal; False if it is leaving already."""
        life = leaving.asked_to_leave(self.life, cause, noticed_ns)
        if life is self.life:
            return False
        self.life = life
        self.journal.note(cause=cause.model_dump(mode="json"), noticed_ns=noticed_ns)
        return True

    def warn(self) -> None:
        """Tell its first process to leave, in microseconds."""
        if self.life.state is RunState.STOPPING and self.handle is not None:
            at_ns = self.handle.warn()
            if at_ns is not None:
                self._signalled(at_ns)

    def leave(self) -> None:
        """Tell all its processes to leave; what is to be said waits."""
        self._signal()
        if self.handle is None:
            self._exited(Report(state="ended", problem=NEVER_STARTED))

    def hurry(self, grace_seconds: float) -> None:
        """Cut its grace short."""
        self.life = leaving.hurried(self.life, grace_seconds)
        self._wake_when_due()

    def kill(self) -> None:
        """Kill what is left, at once."""
        if self.life.has_processes and self.handle is not None:
            self.handle.kill()

    def on_report(self, report: Report) -> None:
        """Take in what is known of its processes."""
        self._output_problem = report.output_problem
        if report.started_at is not None and self.fact.started_at is None:
            started_at = datetime.fromtimestamp(report.started_at, UTC)
            self.fact = self.fact.model_copy(update={"pid": report.pid, "started_at": started_at})
        match report.state:
            case "running":
                self.life = leaving.started(self.life)
                if not self.life.is_alive:
                    # It was told to leave before it had a process that could be told.
                    self._signal()
            case "ended":
                self._exited(report)
        self.say()

    def on_check(self, facts: Facts, began_ns: int) -> None:
        """A check of the collector that began at this moment was completed."""
        exited = self.life.exited_ns
        if self.life.state is not RunState.CLEARING or exited is None or began_ns < exited:
            return
        if all(self._is_clear(facts, gpu) for gpu in self.fact.gpus):
            self.life = leaving.cleared(self.life, time.monotonic_ns())
            self.fact = self.fact.model_copy(update={"cleared_at": datetime.now(UTC)})
            self.say()

    def on_time(self) -> None:
        """Look at the clock: grace may be over, or patience with its memory."""
        now = time.monotonic_ns()
        if self.life.due_ns is not None and now >= self.life.due_ns:
            if self.life.state is RunState.CLEARING:
                self.stop_clearing()
            else:
                self.life = leaving.out_of_grace(self.life)
                self._signal()
                self.say()
        killed = self.life.killed_ns
        if self.life.state is RunState.KILLING and killed is not None and self.handle is not None:
            # Again, for whoever was born in between where there is no cgroup to kill as one.
            self.handle.kill()
            if now - killed > _STUBBORN_NS and not self._is_stubborn:
                self._is_stubborn = True
                logger.error("run %s cannot be killed: the kernel holds on to it", self.fact.run)
                self.say()
        if self.handle is not None:
            self.handle.look()

    def stop_clearing(self) -> None:
        """Be final without having seen its memory come back."""
        self.life = leaving.cleared(self.life, None)
        self.say()

    def lose(self, problem: str) -> None:
        """Be final without knowing how it ended."""
        self.life = leaving.lost(self.life, problem)
        self.say()

    def say(self) -> None:
        """Bring the fact up to date; a change is journalled and said."""
        life = self.life
        news = {
            "state": life.state,
            "reason": self._reason(),
            "cause": life.cause,
            "stages": leaving.stages(life),
            "exit_code": life.exit_code,
            "exit_signal": life.exit_signal,
        }
        if all(getattr(self.fact, name) == value for name, value in news.items()):
            return
        is_event = life.state is not self.fact.state
        self.fact = self.fact.model_copy(update={**news, "at": datetime.now(UTC)})
        self.announce(is_event=is_event)
        self._wake_when_due()

    def announce(self, *, is_event: bool) -> None:
        """Publish the fact as it is; as an event, too, when the state is a new one."""
        self._publish(self.fact, is_event)
        # After the event: a crash in between says it once more, and never too seldom.
        self.journal.note(run=self.fact.model_dump(mode="json"))

    def close(self) -> None:
        """Let go of everything; processes stay as they are."""
        if self._timer is not None:
            self._timer.cancel()
        if self.handle is not None:
            self.handle.close()
            self.handle = None
        self.journal.close()

    def _signal(self) -> None:
        handle = self.handle
        if handle is None:
            return
        handle.call_off()
        is_kill = self.life.state is RunState.KILLING
        self._signalled(handle.kill() if is_kill else handle.terminate())

    def _signalled(self, at_ns: int) -> None:
        self.life = leaving.signalled(self.life, at_ns)
        name = "killed_at" if self.life.state is RunState.KILLING else "term_sent_at"
        if getattr(self.fact, name) is None:
            self.fact = self.fact.model_copy(update={name: _wall_clock(at_ns)})

    def _exited(self, report: Report) -> None:
        life = self.life
        if report.supervisor_gone and life.is_alive:
            text = "its supervisor ended before it; what was left was killed"
            life = replace(life, cause=Cause(kind=CauseKind.SUPERVISOR_GONE, text=text))
        elif report.stopped_by is not None and life.cause is None:
            cause = Cause(kind=CauseKind.NOT_WATCHED, text=report.stopped_by)
            life = replace(life, cause=cause)
        if report.problem == NEVER_STARTED and life.cause is None:
            self.life = leaving.lost(life, "the runner ended before it could start")
        else:
            self.life = leaving.exited(
                life,
                report.exited_ns or time.monotonic_ns(),
                code=report.exit_code,
                number=report.exit_signal,
                problem=report.problem,
            )
        exited_at = _wall_clock(self.life.exited_ns or time.monotonic_ns())
        self.fact = self.fact.model_copy(update={"exited_at": exited_at})
        if self.handle is not None:
            self.handle.close()
            self.handle = None

    def _reason(self) -> str:
        text = leaving.reason(self.life)
        if self.life.state is RunState.RUNNING and self.fact.started_at is not None:
            text = f"running since {self.fact.started_at:%H:%M} UTC"
            if self._output_problem is not None:
                text += f"; its output is being dropped: {self._output_problem}"
        return f"{text}; the kernel holds on to it" if self._is_stubborn else text

    def _is_clear(self, facts: Facts, gpu: str) -> bool:
        state = facts.gpus.get(gpu)
        if state is None or state.state in _NOT_CLEAR:
            return False
        return all(holder.run != self.fact.run for holder in state.holders)

    def _wake_when_due(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.life.due_ns
        if due is not None:
            seconds = max(0.0, (due - time.monotonic_ns()) / 1e9)
            self._timer = asyncio.get_running_loop().call_later(seconds, self.on_time)


def _wall_clock(at_ns: int) -> datetime:
    """Return when CLOCK_MONOTONIC stood at a moment that is not long ago."""
    ago = timedelta(microseconds=(time.monotonic_ns() - at_ns) / 1000)
    return datetime.now(UTC) - ago
