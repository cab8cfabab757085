"""Count runs that end by themselves: the next start waits longer each time, then is held."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from gleaner.bus.messages import Blocker, CatalogueEntry, Grant, Run, RunState
from gleaner.settings import SchedulerSettings
from services.scheduler.state import Crash, Place

_ENDED_BY_ITSELF = frozenset({RunState.SUCCEEDED, RunState.FAILED})


def count(
    crashes: Mapping[Place, Crash],
    node: str,
    grant: Grant,
    run: Run,
    policy: SchedulerSettings,
    now: datetime,
) -> Mapping[Place, Crash]:
    """Return the counts after a run that is over; one that had to leave is no crash."""
    place = (node, grant.entry, grant.gpus)
    before = crashes.get(place)
    if before is not None and before.last_run == run.run:
        return crashes
    others = {key: crash for key, crash in crashes.items() if key != place}
    if before is not None and (before.digest != grant.digest or _was_healthy(run, policy)):
        before = None
    if run.state not in _ENDED_BY_ITSELF:
        return MappingProxyType(others | ({place: before} if before else {}))
    endings = before.endings if before else 0
    failures = 0
    if run.state is RunState.FAILED:
        failures = (before.failures if before else 0) + 1
    # 2**n overflows a float long before somebody looks; the longest wait is reached sooner.
    delay = min(policy.backoff_max_seconds, policy.backoff_seconds * 2 ** min(endings, 40))
    others[place] = Crash(
        node=node,
        entry=grant.entry,
        gpus=grant.gpus,
        digest=grant.digest,
        endings=endings + 1,
        failures=failures,
        last=_how(run),
        last_run=run.run,
        not_before=now + timedelta(seconds=delay),
        held=failures >= policy.failures_max,
    )
    return MappingProxyType(others)


def forget(crashes: Mapping[Place, Crash], node: str, entry: str) -> Mapping[Place, Crash]:
    """Return the counts without those of one workload on a node."""
    return MappingProxyType(
        {place: one for place, one in crashes.items() if place[:2] != (node, entry)}
    )


def blocker(
    crash: Crash | None, entry: CatalogueEntry, policy: SchedulerSettings, now: datetime
) -> Blocker | None:
    """Return why an entry may not start at a place again yet, or None."""
    if crash is None or crash.digest != entry.digest:
        return None
    if crash.held:
        text = (
            f"ended {crash.failures} times in a row, last: {crash.last}; "
            f"`gleaner resume {crash.node} {crash.entry}` forgets it"
        )
        return Blocker(code="crashed", text=text)
    # More than the longest wait is a clock set back since.
    if 0 < (crash.not_before - now).total_seconds() <= policy.backoff_max_seconds:
        times = "" if crash.endings == 1 else f" ({crash.endings} times in a row)"
        text = f"ended by itself with {crash.last}{times}, waits before it starts again"
        return Blocker(code="backoff", text=text, until=crash.not_before)
    return None


def _was_healthy(run: Run, policy: SchedulerSettings) -> bool:
    ended = run.exited_at or run.cleared_at
    if run.started_at is None or ended is None:
        return False
    return (ended - run.started_at).total_seconds() >= policy.healthy_seconds


def _how(run: Run) -> str:
    if run.exit_signal is not None:
        return f"signal {run.exit_signal}"
    if run.exit_code is not None:
        return f"exit code {run.exit_code}"
    return run.reason
