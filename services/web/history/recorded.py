"""Ask the recorder for as many pages as a page needs; what went wrong is part of the answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import JsonValue

from gleaner.bus.messages import HistoryAnswer
from services.web.questions import NoAnswer, Questions

Row = dict[str, JsonValue]
What = Literal["events", "runs", "samples", "sessions", "series", "usage", "quotas", "latencies"]
PAGE_ROWS = 1000


class Refused(Exception):
    """The recorder does not answer a question; the text is its own."""

    def __init__(self, error: str, *, is_unknown: bool = False, is_fault: bool = False) -> None:
        super().__init__(error.rstrip("."))
        self.is_unknown = is_unknown
        """Whether something is named in it that was never recorded."""
        self.is_fault = is_fault
        """Whether the question is well and the recorder is not."""

    @property
    def status(self) -> int:
        """The status: what is unknown, what makes no sense, and what is not the asker's fault."""
        if self.is_fault:
            return 503
        return 404 if self.is_unknown else 422

    @property
    def sentence(self) -> str:
        """The same for people to read."""
        return _sentence(str(self) if self.is_unknown else f"the recorder says: {self}")


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the recorder said, as far as it did."""

    rows: tuple[Row, ...] = ()
    cursor: str | None = None
    """Where what is not in `rows` begins; None: that was all."""
    looked_back_to: datetime | None = None
    """Only so far back could be searched just now; None: everything was."""
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
        return Found(rows=tuple(rows), cursor=cursor, problem=error.sentence)


async def nothing() -> Found:
    """Ask nobody: for a part of a page that nobody wants."""
    return Found()


async def search(
    questions: Questions, what: What, *, limit: int, cursor: str | None, **filters: Any
) -> Found:
    """Return one page; what went wrong is part of it."""
    try:
        return await one_page(questions, what, limit=limit, cursor=cursor, **filters)
    except NoAnswer as error:
        return Found(cursor=cursor, problem=_sentence(str(error)), is_silent=True)
    except Refused as error:
        return Found(cursor=cursor, problem=error.sentence)


async def one_page(questions: Questions, what: What, **filters: Any) -> Found:
    """Return one page; raise NoAnswer if nobody answers, Refused if it has no answer."""
    answer = answered(await questions.history(what, **filters))
    return Found(rows=answer.rows, cursor=answer.cursor, looked_back_to=answer.looked_back_to)


def answered(answer: HistoryAnswer) -> HistoryAnswer:
    """Return what is an answer, else raise Refused."""
    if answer.error is not None:
        raise Refused(answer.error, is_unknown=answer.unknown is not None, is_fault=answer.is_fault)
    return answer


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('?') else '.'}"
