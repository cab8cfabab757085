"""Page after page of an answer, also while the recorder restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from gleaner.bus.messages import HistoryAnswer
from gleaner.export.columns import Row

Ask = Callable[[str | None], Awaitable[HistoryAnswer]]
"""Asks for the page that a cursor stands for; raises if there is no answer."""

PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 1.0


class Incomplete(Exception):
    """There was no answer for a later page: what was written so far is not all."""


async def pages(
    ask: Ask, unanswered: type[Exception], refused: type[Exception]
) -> AsyncGenerator[Sequence[Row], None]:
    """Yield the pages of an answer; each is asked for again while a recorder restarts.

    The first page raises at once what is refused, and in the end `unanswered`. A later one raises
    Incomplete: what was answered before is refused only for a while. So does an answer that has
    not all, since the recorder cannot search all of it just now.
    """
    cursor: str | None = None
    clock = asyncio.get_running_loop().time
    rows = 0
    while True:
        until = clock() + PATIENCE_SECONDS
        while True:
            try:
                answer = await ask(cursor)
                break
            except (unanswered, refused) as error:
                if cursor is None and not isinstance(error, unanswered):
                    raise
                if clock() >= until:
                    if cursor is None:
                        raise unanswered(f"{error} (waited {PATIENCE_SECONDS:g} s)") from error
                    raise Incomplete(f"after {rows} rows: {error}") from error
                await asyncio.sleep(PAUSE_SECONDS)
        if answer.looked_back_to is not None:
            missing = (
                f"what is older than {answer.looked_back_to:%Y-%m-%dT%H:%M:%S}Z is being indexed "
                "after an update of the recorder; ask again later, or only for what came since"
            )
            raise (unanswered if cursor is None else Incomplete)(missing)
        rows += len(answer.rows)
        yield answer.rows
        cursor = answer.cursor
        if cursor is None:
            return
