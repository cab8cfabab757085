"""What becomes of what arrived: numbers with rows, or letters where that is not possible; pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from gleaner.bus.messages import Event
from services.recorder.intake.batch import DeadLetter, Number
from services.recorder.intake.rows import Unfit, number_of, rows_of
from services.recorder.upkeep.retention import Retention

LONGEST_EVENT = timedelta(hours=1)
"""No event tells of longer than this."""

Has = Callable[[str, str, int], bool]
"""Of node, stream and sequence number."""


def numbers_of(
    events: list[Event], letters: list[DeadLetter], has: Has, retention: Retention, now: datetime
) -> tuple[list[Number], list[DeadLetter]]:
    """Return what is to be written, and the events that cannot be.

    `has` tells whether a number is recorded for certain, `retention` what is really kept.
    """
    numbers, unfit = [], []
    for event in events:
        if _is_repeat_of_deleted(event, has, retention, now):
            continue
        try:
            rows = rows_of(event, now)
        except Unfit as error:
            payload = event.model_dump_json().encode()
            unfit.append(
                DeadLetter(topic=event.topic, payload=payload, reason=str(error), received_at=now)
            )
            continue
        numbers.append(
            Number(
                node=event.node,
                stream=event.stream,
                sequence=event.sequence,
                oldest=event.oldest_sequence,
                rows=rows,
            )
        )
    for letter in [*letters, *unfit]:
        found = number_of(letter.topic, letter.payload)
        if found is not None:
            node, stream, sequence, oldest = found
            numbers.append(
                Number(node=node, stream=stream, sequence=sequence, oldest=oldest, rows=None)
            )
    return numbers, unfit


def parts_of(
    numbers: list[Number], letters: list[DeadLetter]
) -> list[tuple[list[Number], list[DeadLetter]]]:
    """Return in which parts a batch that was refused may be written; none if it is one thing."""
    if numbers and letters:
        return [(numbers, []), ([], letters)]
    if len(numbers) + len(letters) < 2:
        return []
    of_numbers, of_letters = len(numbers) // 2, len(letters) // 2
    return [
        (numbers[:of_numbers], letters[:of_letters]),
        (numbers[of_numbers:], letters[of_letters:]),
    ]


def set_aside(number: Number, why: str, now: datetime) -> tuple[list[Number], list[DeadLetter]]:
    """Return a number as one that is unreadable, and the letter that tells what it was."""
    assert number.rows is not None
    letter = DeadLetter(
        topic=f"{number.node}/{number.stream}/{number.sequence}",
        payload=str((number.rows.event or {}).get("data", "samples")).encode(),
        reason=f"the database refused it: {why}",
        received_at=now,
    )
    return [replace(number, rows=None)], [letter]


def _is_repeat_of_deleted(event: Event, has: Has, retention: Retention, now: datetime) -> bool:
    """The row that would tell a repeat may be gone by its age; then the watermark tells."""
    # Its samples are older than itself, and would be added to what was made of them.
    is_old = event.at < retention.horizon(event.kind, now) + LONGEST_EVENT
    return is_old and has(event.node, event.stream, event.sequence)
