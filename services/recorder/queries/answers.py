"""From a question to its answer, whatever it is about."""

from __future__ import annotations

from datetime import datetime

from gleaner.bus.messages import HistoryAnswer, HistoryQuery
from services.recorder.queries import (
    history,
    last_hour,
    questions,
    sample_pages,
    search,
    series,
    standing,
    usage,
)
from services.recorder.queries.questions import Known
from services.recorder.queries.unknown import check_names
from services.recorder.schema.reading import Read

_FIGURES = {
    "series": series.rows,
    "usage": usage.rows,
    "quotas": standing.quotas,
    "latencies": standing.latencies,
}


async def answer(read: Read, query: HistoryQuery, known: Known, now: datetime) -> HistoryAnswer:
    """Return one page of an answer, or raise BadQuestion."""
    if query.what in _FIGURES:
        question = questions.question_of(query, now)
        await check_names(read, query, known)
        return questions.page_of(question, await _FIGURES[query.what](read, question, known))
    if query.what == "last_hour":
        return await last_hour.answer(read, query, known.names, now)
    history.check(query)
    await check_names(read, query, known)
    if query.what == "samples":
        return await sample_pages.answer(read, query, known.names)
    if search.is_search(query):
        return await search.answer(read, query, known.names, known.aliases, now)
    statement = history.statement_of(query, known.names, known.aliases)
    answer = history.answer_of(query, await read(statement))
    rows = tuple(
        row | {"user": known.shown(user)} if isinstance(user := row.get("user"), str) else row
        for row in answer.rows
    )
    return answer.model_copy(update={"rows": rows})
