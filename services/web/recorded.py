"""Ask the recorder for as many pages as a page needs; what went wrong is part of the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import JsonValue

from services.web.questions import NoAnswer, Questions

Row = dict[str, JsonValue]
What = Literal["events", "runs", "samples", "sessions", "series", "usage", "quotas", "latencies"]
PAGE_ROWS = 1000
PAGES = 20
"""Looked through for one page of a filter that the recorder does not know."""


class Refused(Exception):
    """The recorder cannot make sense of a question; the text is its own."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the recorder said, as far as it did."""

    rows: tuple[Row, ...] = ()
    cursor: str | None = None
    """Where what is not in `rows` begins; None: that was all."""
    problem: str | None = None
    """Why there are no (more) rows, for people to read."""


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
        return Found(rows=tuple(rows), cursor=cursor, problem=_sentence(str(error)))
    except Refused as error:
        return Found(rows=tuple(rows), cursor=cursor, problem=f"The recorder says: {error}.")


async def search(
    questions: Questions,
    what: What,
    is_wanted: Callable[[Row], bool],
    *,
    limit: int,
    cursor: str | None,
    **filters: Any,
) -> Found:
    """Return about so many rows that are wanted, at most from as many pages as it takes."""
    rows: list[Row] = []
    try:
        for _ in range(PAGES):
            page = await one_page(questions, what, limit=limit, cursor=cursor, **filters)
            rows += filter(is_wanted, page.rows)
            cursor = page.cursor
            if cursor is None or len(rows) >= limit:
                break
    except NoAnswer as error:
        return Found(rows=tuple(rows), cursor=cursor, problem=_sentence(str(error)))
    except Refused as error:
        return Found(rows=tuple(rows), cursor=cursor, problem=f"The recorder says: {error}.")
    return Found(rows=tuple(rows), cursor=cursor)


async def one_page(questions: Questions, what: What, **filters: Any) -> Found:
    """Return one page; raise NoAnswer if nobody answers, Refused if it makes no sense."""
    answer = await questions.history(what, **filters)
    if answer.error is not None:
        raise Refused(answer.error.rstrip("."))
    return Found(rows=answer.rows, cursor=answer.cursor)


async def further_rows(
    questions: Questions, what: What, page: Found, **filters: Any
) -> AsyncIterator[Row]:
    """Yield the rows of a page and of all that follow it."""
    while True:
        for row in page.rows:
            yield row
        if page.cursor is None:
            return
        page = await one_page(questions, what, cursor=page.cursor, **filters)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
