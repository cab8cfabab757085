"""Decide the one word for a GPU, and the reasons for it in an operator's words.

Lost, then unknown, then busy or held (somebody else's process counts), then ours, then dirty
(held by nobody we can name), and only then idle.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from gleaner.bus.messages import GpuCondition, Holder
from gleaner.settings import GpuSettings
from services.collector.interface import GpuSweep, Process

MIB = 1024 * 1024
DIRTY_BYTES = 200 * MIB
"""Memory above the baseline that needs an explanation."""
BASELINE_MAX_BYTES = 1024 * MIB
"""No driver keeps more than this for itself, so more than this at the start is not a baseline."""
OWN_PROGRAM = "nvml_child.py"
"""Asks the driver for a collector, and holds every device open for that."""
QUIET_PERCENT = 1.0
HolderKind = Literal["compute", "graphics", "mps", "device_open"]
KINDS: tuple[HolderKind, ...] = ("compute", "graphics", "mps", "device_open")
_WORDS = {
    "compute": "computes",
    "mps": "computes",
    "graphics": "draws",
    "device_open": "has the device open",
}
_KERNEL_NAME_BYTES = 15


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What makes a GPU busy, by the administrator's settings."""

    kinds: frozenset[str]
    utilization_percent: float | None = None
    memory_used_bytes: int | None = None
    ignore_programs: frozenset[str] = frozenset()
    ignore_users: frozenset[str] = frozenset()
    held_after_seconds: float = 1800


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known about one GPU at one moment."""

    sweep: GpuSweep | None
    """None: the driver said nothing about it."""
    problem: str | None = None
    """Why the driver cannot be asked."""
    holders: tuple[Holder, ...] = ()
    sees_others: bool = True
    """Whether other users' open files are visible to us."""
    broken: tuple[str, ...] = ()
    """Why it does no work until somebody has looked after it."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is to be said about a GPU."""

    state: GpuCondition
    reasons: tuple[str, ...]
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Past:
    """What one check hands on to the next."""

    state: GpuCondition | None = None
    baseline_bytes: int | None = None
    """The lowest memory use seen without any holder."""
    unexplained: bool = False
    """Memory was in use by nobody we can name."""
    is_dirty: bool = False
    """That was so for more than one check, or right after somebody left."""
    quiet_since: float | None = None
    """Since when (monotonic seconds) strangers have been there and nothing was computed."""
    strangers: frozenset[object] = field(default=frozenset())


def policy(settings: GpuSettings) -> Policy:
    """Return the policy that the settings describe."""
    kinds: set[str] = set()
    limits: dict[str, int] = {}
    for word in settings.busy_when:
        reading = re.fullmatch(r"(\w+)\s*>=\s*(\d+)", word)
        if reading:
            limits[reading[1]] = min(int(reading[2]), limits.get(reading[1], int(reading[2])))
        elif word == "compute_process":
            kinds |= {"compute", "mps"}
        else:
            kinds.add(word.removesuffix("_process"))
    return Policy(
        kinds=frozenset(kinds),
        utilization_percent=limits.get("utilization_percent"),
        memory_used_bytes=limits.get("memory_used_bytes"),
        ignore_programs=frozenset({*settings.ignore_programs, OWN_PROGRAM}),
        ignore_users=frozenset(settings.ignore_users),
        held_after_seconds=settings.held_after_seconds,
    )


def ignored(process: Process, policy: Policy) -> str | None:
    """Return why a process does not count (`"program nvidia-smi"`), or None if it does."""
    for name in policy.ignore_programs:
        # Where only the kernel's name of a process can be read, it is cut off.
        if process.program in (name, name.encode()[:_KERNEL_NAME_BYTES].decode(errors="replace")):
            return f"program {name}"
    if process.user is not None and process.user in policy.ignore_users:
        return f"user {process.user}"
    return None


def counts(holder: Holder, policy: Policy) -> bool:
    """Return whether a holder is somebody else's, alive, and of a kind that counts."""
    return (
        holder.run is None
        and holder.ignored is None
        and holder.alive
        and not policy.kinds.isdisjoint(holder.kinds)
    )


def judge(evidence: Evidence, past: Past, policy: Policy, now: float) -> tuple[Verdict, Past]:
    """Return what a GPU is and what to remember; `now` is in monotonic seconds."""
    holders, sweep = evidence.holders, evidence.sweep
    if sweep is not None and sweep.lost:
        return _say(GpuCondition.LOST, (sweep.lost, *evidence.broken), (), past)
    doubt = _doubt(evidence)
    if doubt or sweep is None:
        return _say(
            GpuCondition.UNKNOWN, (doubt or "no answer",), holders, replace(past, quiet_since=None)
        )

    past = _remember(evidence, sweep, past, policy, now)
    strangers = [holder for holder in holders if counts(holder, policy)]
    if strangers:
        if past.quiet_since is not None and now - past.quiet_since >= policy.held_after_seconds:
            reasons = tuple(f"{_who(one)} holds it and does nothing" for one in strangers)
            return _say(GpuCondition.HELD, (*reasons, *evidence.broken), holders, past)
        reasons = tuple(map(describe, strangers))
        return _say(GpuCondition.BUSY, (*reasons, *evidence.broken), holders, past)
    loads, doubts = _loads(sweep, holders, policy)
    if loads:
        return _say(GpuCondition.BUSY, (*loads, *evidence.broken), holders, past)
    if evidence.broken:
        return _say(GpuCondition.LOST, evidence.broken, holders, past)
    ours = _unique(f"run {one.run}" for one in holders if one.run and one.ignored is None)
    if ours:
        return _say(GpuCondition.OURS, ours, holders, past)
    if doubts:
        return _say(GpuCondition.UNKNOWN, doubts, holders, past)
    remains = _remains(holders, past)
    if remains:
        return _say(GpuCondition.DIRTY, remains, holders, past)
    return _say(GpuCondition.IDLE, ("nobody uses it",), holders, past)


def unattributed_bytes(used: int | None, holders: Iterable[Holder]) -> int | None:
    """Return memory in use by no process we can name; None where it cannot be told."""
    if used is None:
        return None
    for holder in holders:
        if not holder.alive:
            continue
        if holder.memory_used_bytes is not None:
            used -= holder.memory_used_bytes
        elif set(holder.kinds) != {"device_open"}:
            return None
    return max(0, used)


def describe(holder: Holder) -> str:
    """Return a holder in an operator's words: `user1 computes (pid 4711, python)`."""
    does = next((_WORDS[kind] for kind in KINDS if kind in holder.kinds), "holds it")
    return _who(holder, does)


def _who(holder: Holder, does: str = "") -> str:
    user = holder.user or (f"user {holder.user_id}" if holder.user_id is not None else "somebody")
    command = f", {holder.command}" if holder.command else ""
    return f"{user}{' ' if does else ''}{does} (pid {holder.pid}{command})"


def _say(
    state: GpuCondition, reasons: tuple[str, ...], holders: tuple[Holder, ...], past: Past
) -> tuple[Verdict, Past]:
    return Verdict(state=state, reasons=reasons, holders=holders), replace(past, state=state)


def _unique(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _doubt(evidence: Evidence) -> str | None:
    sweep = evidence.sweep
    if evidence.problem or sweep is None:
        return evidence.problem or "the driver said nothing about it"
    if sweep.processes is None:
        problems = "; ".join(
            f"{kind}: {sweep.reading.problems[kind]}"
            for kind in ("compute", "graphics", "mps")
            if kind in sweep.reading.problems
        )
        return f"the driver does not say who uses it ({problems or 'no answer'})"
    if not sweep.driver_asked and not evidence.sees_others:
        return "without NVML, only root can see who holds the device"
    return None


def _remember(evidence: Evidence, sweep: GpuSweep, past: Past, policy: Policy, now: float) -> Past:
    """Take in what matters over several checks: baseline, unexplained memory, quiet strangers."""
    used = sweep.reading.memory_used_bytes
    baseline = past.baseline_bytes
    if used is not None and not evidence.holders:
        baseline = min(used, BASELINE_MAX_BYTES if baseline is None else baseline)
    unexplained = _unexplained_bytes(sweep, evidence.holders, baseline) > DIRTY_BYTES

    strangers = frozenset[object](
        (one.pid, one.started_at) for one in evidence.holders if counts(one, policy)
    )
    load = sweep.reading.utilization_percent
    quiet = strangers and load is not None and load <= QUIET_PERCENT
    newcomers = strangers - past.strangers
    quiet_since = past.quiet_since
    if not quiet or newcomers or quiet_since is None:
        quiet_since = now if quiet else None
    return replace(
        past,
        baseline_bytes=baseline,
        unexplained=unexplained,
        # A driver may list a process a moment after its memory, so one check is not enough on an
        # idle GPU. Where somebody has just left, it means that memory is not free yet.
        is_dirty=unexplained and (past.unexplained or past.state is not GpuCondition.IDLE),
        quiet_since=quiet_since,
        strangers=strangers,
    )


def _unexplained_bytes(sweep: GpuSweep, holders: tuple[Holder, ...], baseline: int | None) -> int:
    unattributed = unattributed_bytes(sweep.reading.memory_used_bytes, holders)
    return 0 if unattributed is None else unattributed - (baseline or 0)


def _loads(
    sweep: GpuSweep, holders: tuple[Holder, ...], policy: Policy
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which readings make it busy, and which of them cannot be told.

    What our own run does to a reading does not count; utilization cannot be told apart.
    """
    loads, doubts = [], []
    ours = [holder for holder in holders if holder.run]
    at_least = policy.utilization_percent
    if at_least is not None and not ours:
        load = sweep.reading.utilization_percent
        if load is None:
            doubts.append("utilization counts, but it is not known")
        elif load >= at_least:
            loads.append(f"utilization is {at_least:g} % or more")
    limit = policy.memory_used_bytes
    if limit is not None:
        used = unattributed_bytes(sweep.reading.memory_used_bytes, ours)
        if used is None and not ours:
            doubts.append("memory in use counts, but it is not known")
        elif used is not None and used >= limit:
            loads.append(f"{limit / MIB:.0f} MiB of memory or more are in use")
    return tuple(loads), tuple(doubts)


def _remains(holders: tuple[Holder, ...], past: Past) -> tuple[str, ...]:
    gone = tuple(
        f"the driver lists pid {one.pid}, which cannot be found" for one in holders if not one.alive
    )
    if gone or not past.is_dirty:
        return gone
    return ("memory is in use by nobody we can name",)
