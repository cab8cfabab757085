"""Ask the recorder for as many pages as a page needs; what went wrong is part of the answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from pydantic import JsonValue

from services.web.questions import NoAnswer, Questions

Row = dict[str, JsonValue]
What = Literal["events", "runs", "samples", "sessions", "series", "usage", "quotas", "latencies"]
PAGE_ROWS = 1000
SEARCH_SECONDS = 2.0
"""So long it is looked further back for one page, where the recorder has to search."""


class Refused(Exception):
    """The recorder cannot make sense of a question; the text is its own."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the recorder said, as far as it did."""

    rows: tuple[Row, ...] = ()
    cursor: str | None = None
    """Where what is not in `rows` begins; None: that was all."""
    looked_back_to: datetime | None = None
    """So far back it was looked for more rows than these; None: there was no need."""
    problem: str | None = None
    """Why there are no (more) rows, for people to read."""
    is_silent: bool = False
    """Whether that is because nobody answered, which passes."""


async def ask(questions: Questions, what: What, *, most: int = PAGE_ROWS, **filters: Any) -> Found:
    """Return at most so many rows."""
    rows: list[Row] = []
    cursor: str | None = None
    try:
        while True:
            limit = min(PAGE_ROWS, most - len(rows))
            page = await one_page(questions, what, limit=limit, cursor=cursor, **filters)
            rows += page.rows
            cursor = page.cursor
            if cursor is None or len(rows) >= most:
                return Found(rows=tuple(rows), cursor=cursor)
    except NoAnswer as error:
        why = _sentence(str(error))
        return Found(rows=tuple(rows), cursor=cursor, problem=why, is_silent=True)
    except Refused as error:
        return Found(rows=tuple(rows), cursor=cursor, problem=f"The recorder says: {error}.")


async def nothing() -> Found:
    """Ask nobody: for a part of a page that nobody wants."""
    return Found()


async def search(
    questions: Questions, what: What, *, limit: int, cursor: str | None, **filters: Any
) -> Found:
    """Return at most so many rows, looking back as far as a reader waits for a page."""
    found = Found(cursor=cursor)
    clock = asyncio.get_running_loop().time
    until = clock() + SEARCH_SECONDS
    try:
        while True:
            left = limit - len(found.rows)
            page = await one_page(questions, what, limit=left, cursor=found.cursor, **filters)
            found = replace(page, rows=found.rows + page.rows)
            if page.looked_back_to is None or clock() >= until:
                return found
    except NoAnswer as error:
        return replace(found, problem=_sentence(str(error)), is_silent=True)
    except Refused as error:
        return replace(found, problem=f"The recorder says: {error}.")


async def one_page(questions: Questions, what: What, **filters: Any) -> Found:
    """Return one page; raise NoAnswer if nobody answers, Refused if it makes no sense."""
    answer = await questions.history(what, **filters)
    if answer.error is not None:
        raise Refused(answer.error.rstrip("."))
    return Found(rows=answer.rows, cursor=answer.cursor, looked_back_to=answer.looked_back_to)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
