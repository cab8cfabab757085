"""`/api/history/…`: what the recorder knows, in pages of JSON, or whole as CSV."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.responses import JSONResponse, Response

from gleaner.bus.message import Utc
from gleaner.bus.messages import EventKind, GpuCondition, RunState
from gleaner.export import Encoder, csv_with, encoder
from gleaner.figures import By, columns_of
from services.web.data.downloads import Downloads
from services.web.data.refusals import OneOf
from services.web.history.recorded import PAGE_ROWS, Refused, What, one_page
from services.web.questions import NoAnswer, Questions

KINDS = tuple(kind.value for kind in EventKind)
RUN_STATES = tuple(state.value for state in RunState)
STATES = (*(state.value for state in GpuCondition), *RUN_STATES)


class Problem(BaseModel):
    """Why a question has no answer."""

    detail: str


class HistoryPage(BaseModel):
    """One page of rows, newest or largest first."""

    rows: tuple[dict[str, JsonValue], ...]
    cursor: str | None
    """Ask with this for the next page; null: that was all."""
    looked_back_to: Utc | None = None
    """Only so far back could be searched just now, after an update; null: everything was."""


class Question(BaseModel):
    """What every question may name."""

    model_config = ConfigDict(extra="forbid")

    node: str | None = Field(None, pattern=r"^[a-z0-9_-]{1,63}$", description="Of it only.")
    since: Utc | None = Field(None, description="Not before this instant.")
    until: Utc | None = Field(None, description="Before this instant.")
    format: Literal["json", "csv"] = Field(
        "json", description="`csv`: all rows at once, as a file to keep."
    )


class PagedQuestion(Question):
    """A question whose answer may be long."""

    gpu: str | None = Field(None, max_length=80, description="Of it only, by its UUID.")
    limit: int = Field(100, ge=1, le=PAGE_ROWS, description="Rows of a page of JSON.")
    cursor: str | None = Field(None, max_length=400, description="From the page before.")


class SeriesQuestion(PagedQuestion):
    """How one GPU or node fared."""

    of: Literal["host"] | None = Field(
        None, description="`host`: the node's own CPU, memory, network and disks; else its GPUs."
    )
    points: int | None = Field(
        None, ge=1, le=5000, description="At most about so many; the resolution follows."
    )


class SessionsQuestion(PagedQuestion):
    """Who held what."""

    user: str | None = Field(None, max_length=100, description="Of this person only.")


class UsageQuestion(SessionsQuestion):
    """Who used how much."""

    by: By = Field("user", description="`hour`: of the day; `weekday_hour`: 1 is Monday.")


class RunsQuestion(PagedQuestion):
    """Which runs of ours there were."""

    user: str | None = Field(None, max_length=100, description="That name this person only.")
    entry: str | None = Field(None, max_length=80, description="Of this workload only.")
    state: Annotated[str, OneOf(RUN_STATES)] | None = Field(
        None, description="That came into it only."
    )


class EventsQuestion(RunsQuestion):
    """What happened."""

    state: Annotated[str, OneOf(STATES)] | None = Field(None, description="That tell of it only.")
    kind: Annotated[str, OneOf(KINDS)] | None = Field(None, description="Of this kind only.")


class QuotasQuestion(BaseModel):
    """Where users stand."""

    model_config = ConfigDict(extra="forbid")

    user: str | None = Field(None, max_length=100, description="Of this person only.")
    format: Literal["json", "csv"] = "json"
    limit: int = Field(100, ge=1, le=PAGE_ROWS)
    cursor: str | None = Field(None, max_length=400)


REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "Something is named that was never recorded."},
    422: {"model": Problem, "description": "It makes no sense, and the answer says why."},
    503: {"model": Problem, "description": "The recorder did not answer, or cannot read history."},
}
"""Of all that the recorder is asked for."""
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
    **REFUSALS,
}


def make_history(questions: Questions, downloads: Downloads) -> APIRouter:
    """Return the routes below `/api/history`."""
    routes = APIRouter(prefix="/history", responses=ANSWERS, default_response_class=JSONResponse)

    async def answer(what: What, asked: BaseModel) -> HistoryPage | Response:
        filters = asked.model_dump(exclude_none=True, exclude={"format", "cursor", "limit"})
        if getattr(asked, "format", "json") == "csv":
            return await downloads.file(what, _table(what, filters), what=what, **filters)
        paging = asked.model_dump(exclude_none=True, include={"cursor", "limit"})
        try:
            page = await one_page(questions, what, **filters, **paging)
        except NoAnswer as error:
            raise HTTPException(503, str(error)) from error
        except Refused as error:
            raise HTTPException(error.status, str(error)) from error
        return HistoryPage(rows=page.rows, cursor=page.cursor, looked_back_to=page.looked_back_to)

    @routes.get("/series", response_model=HistoryPage)
    async def series(asked: Annotated[SeriesQuestion, Query()]) -> Any:
        """Return readings of one GPU, of a node's GPUs or of its host over time, newest first."""
        return await answer("series", asked)

    @routes.get("/usage", response_model=HistoryPage)
    async def usage(asked: Annotated[UsageQuestion, Query()]) -> Any:
        """Return GPU-hours, energy and utilization, summed up."""
        return await answer("usage", asked)

    @routes.get("/sessions", response_model=HistoryPage)
    async def sessions(asked: Annotated[SessionsQuestion, Query()]) -> Any:
        """Return who held which GPU from when to when, newest first."""
        return await answer("sessions", asked)

    @routes.get("/events", response_model=HistoryPage)
    async def events(asked: Annotated[EventsQuestion, Query()]) -> Any:
        """Return what happened, newest first; samples only if `kind` is `samples`."""
        return await answer("events", asked)

    @routes.get("/runs", response_model=HistoryPage)
    async def runs(asked: Annotated[RunsQuestion, Query()]) -> Any:
        """Return the runs of our workloads with how fast they left, newest first."""
        return await answer("runs", asked)

    @routes.get("/latencies", response_model=HistoryPage)
    async def latencies(asked: Annotated[Question, Query()]) -> Any:
        """Return how long evictions took, by stage."""
        return await answer("latencies", asked)

    @routes.get("/quotas", response_model=HistoryPage)
    async def quotas(asked: Annotated[QuotasQuestion, Query()]) -> Any:
        """Return where each user stands this month."""
        return await answer("quotas", asked)

    return routes


def _table(what: What, filters: dict[str, Any]) -> Encoder:
    """Return what writes an answer as CSV, with its heading even where there is nothing."""
    match what:
        case "series":
            return csv_with(columns_of(what, of_host=filters.get("of") == "host"))
        case "quotas" | "latencies":
            return csv_with(columns_of(what))
        case "usage":
            return csv_with(columns_of(what, filters["by"], of_one_user="user" in filters))
        case _:
            return encoder(what, "csv")
