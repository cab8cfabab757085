"""Who has a GPU, for the record: its holders put together by user, run and container."""

from __future__ import annotations

from gleaner.bus.messages import GpuCondition, GpuState, Holder, SampleUser


def users_of(state: GpuState | None) -> tuple[SampleUser, ...] | None:
    """Return who has a GPU; None where nobody can tell."""
    if state is None or state.state in (GpuCondition.UNKNOWN, GpuCondition.LOST):
        return None
    by_user: dict[tuple[str | None, ...], list[Holder]] = {}
    for one in state.holders:
        if one.ignored is None:
            key = (name_of(one), one.run, one.entry, container_of(one))
            by_user.setdefault(key, []).append(one)
    return tuple(
        SampleUser(
            user=user,
            run=run,
            entry=entry,
            container=container,
            processes=len(holders),
            memory_used_bytes=_memory(holders),
        )
        for (user, run, entry, container), holders in by_user.items()
    )


def name_of(holder: Holder) -> str | None:
    """Return the user's name, or `uid 1000` where the id has none."""
    if holder.user is None and holder.user_id is not None:
        return f"uid {holder.user_id}"
    return holder.user


def container_of(holder: Holder) -> str | None:
    """Return what people call its container; the id where nobody says."""
    return holder.container_name or holder.container


def _memory(holders: list[Holder]) -> int | None:
    known = [one.memory_used_bytes for one in holders if one.memory_used_bytes is not None]
    return sum(known) if len(known) == len(holders) else None
