"""`/api`: everything the page shows as JSON, and the four changes it offers.

A FastAPI application of its own, so that OpenAPI comes for free at `/api/openapi.json`. It has no
docs page, because FastAPI's would load scripts from elsewhere.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.responses import JSONResponse

from gleaner import __version__
from gleaner.bus.message import Utc
from gleaner.bus.messages import Blocker, RecorderState, RequestKind
from services.web.data.downloads import Downloads, add_downloads
from services.web.data.history_api import KINDS, REFUSALS, RUN_STATES, Problem, make_history
from services.web.data.refusals import OneOf, only_known, refuse
from services.web.history.recorded import Refused, one_page
from services.web.misread import unknown
from services.web.pages import CARDS_MAX
from services.web.questions import NoAnswer, Questions
from services.web.shown.view import Gpu, Node, ShownRun, Snapshot
from services.web.streaming.live import Live


class GpuBlockers(BaseModel):
    """Why nothing (more) starts on one GPU."""

    node: str
    gpu: str
    index: int | None
    blockers: tuple[Blocker, ...] | None
    """Empty: nothing is in the way; null: the scheduler has not said."""


class Events(BaseModel):
    """One page of what was recorded, newest first."""

    rows: tuple[dict[str, JsonValue], ...]
    cursor: str | None
    """Ask with this for the next page; null: that was all."""


LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""What people see in terminals, too: nothing that would steer one."""


class LastHour(BaseModel):
    """Utilization in percent, in sixty means of a minute, the current minute last."""

    at: Utc
    gpus: dict[str, tuple[int | None, ...]]
    """By UUID; null: not known."""


NodeName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,63}$")]


class Change(BaseModel):
    """What shall change, where and why."""

    model_config = ConfigDict(extra="forbid")

    node: NodeName | None = Field(None, description="Without it: the fleet.")
    entry: NodeName | None = Field(None, description="One workload of the node.")
    reason: str = Field(
        "", max_length=500, pattern=LINE, description="One line, shown to everybody."
    )
    duration_seconds: float | None = Field(
        None,
        gt=0,
        le=366 * 86400,
        allow_inf_nan=False,
        description="How long a pause lasts; null: until resumed.",
    )
    by: str | None = Field(
        None, max_length=100, pattern=LINE, description="Who asks, for people to read."
    )


class Answer(BaseModel):
    """What the scheduler said."""

    ok: bool
    text: str


GUARDED: dict[int | str, dict[str, Any]] = {
    421: {"model": Problem, "description": "The Host header names somebody else."},
    422: {"model": Problem, "description": "A parameter is unknown or makes no sense: which."},
}
CHANGES: dict[int | str, dict[str, Any]] = GUARDED | {
    400: {"model": Problem, "description": "The body is not JSON."},
    401: {
        "model": Problem,
        "description": "Not who runs Gleaner, and the token is missing.",
    },
    403: {"model": Problem, "description": "From a foreign page, or controls are off."},
    408: {"model": Problem, "description": "The body did not arrive in time."},
    409: {"model": Answer, "description": "The scheduler refused, and says why."},
    413: {"model": Problem, "description": "The body is too large."},
    503: {"model": Problem, "description": "The scheduler did not answer."},
}


def make_api(live: Live, questions: Questions) -> FastAPI:
    """Return the application to mount at `/api`."""
    api = FastAPI(
        title="Gleaner",
        version=__version__,
        description="Who uses every GPU, and why nothing runs on it.",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses=GUARDED,
        dependencies=[Depends(only_known)],
        exception_handlers={RequestValidationError: refuse},
    )

    @api.get("/fleet")
    async def fleet() -> Snapshot:
        """Return everything that the page shows."""
        return live.snapshot()

    @api.get("/nodes")
    async def nodes() -> tuple[Node, ...]:
        """Return all nodes."""
        return live.snapshot().nodes

    @api.get("/nodes/{node}", responses={404: {"model": Problem, "description": "Not known."}})
    async def node(node: Annotated[str, Path(max_length=80)]) -> Node:
        """Return one node."""
        nodes = live.snapshot().nodes
        found = next((one for one in nodes if one.node == node), None)
        if found is None:
            raise HTTPException(404, unknown("node", node, (one.node for one in nodes)))
        return found

    @api.get("/gpus")
    async def gpus() -> tuple[Gpu, ...]:
        """Return all GPUs."""
        return tuple(gpu for one in live.snapshot().nodes for gpu in one.gpus)

    @api.get("/last-hour", responses={404: {"model": Problem, "description": "Not known."}})
    async def last_hour(node: NodeName | None = None) -> LastHour:
        """Return the utilization of the last hour: of a node, or of all if they are not many."""
        moment = live.moment()
        nodes = [one.node for one in moment.facts if node in (None, one.node)]
        if node is not None and not nodes:
            raise HTTPException(404, unknown("node", node, (one.node for one in moment.facts)))
        return LastHour(at=moment.at, gpus=live.last_hour(nodes[:CARDS_MAX]))

    @api.get("/recorder")
    async def recorder() -> RecorderState | None:
        """Return how history is kept, and what is missing in it; null: no recorder was heard."""
        return live.fleet.recorder

    @api.get("/runs")
    async def runs() -> tuple[ShownRun, ...]:
        """Return all runs that live or are just over."""
        return tuple(run for one in live.snapshot().nodes for run in one.runs)

    @api.get("/blockers")
    async def blockers() -> tuple[GpuBlockers, ...]:
        """Return why nothing (more) starts, for every GPU."""
        return tuple(
            GpuBlockers(node=gpu.node, gpu=gpu.gpu, index=gpu.index, blockers=gpu.blockers)
            for one in live.snapshot().nodes
            for gpu in one.gpus
        )

    @api.get(
        "/events",
        responses=REFUSALS,
    )
    async def events(
        what: Literal["events", "runs"] = "events",
        node: NodeName | None = None,
        kind: Annotated[str, OneOf((*KINDS, *RUN_STATES))] | None = None,
        since: Utc | None = None,
        until: Utc | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Events:
        """Return what was recorded, newest first, in pages."""
        try:
            answer = await one_page(
                questions, what, node=node, kind=kind, since=since, until=until,
                limit=limit, cursor=cursor,
            )  # fmt: skip
        except NoAnswer as error:
            raise HTTPException(503, str(error)) from error
        except Refused as error:
            raise HTTPException(error.status, str(error)) from error
        return Events(rows=answer.rows, cursor=answer.cursor)

    downloads = Downloads(questions)
    api.include_router(make_history(questions, downloads))
    add_downloads(api, downloads, Problem)
    for kind in RequestKind:
        _add_change(api, questions, kind)
    return api


def _add_change(api: FastAPI, questions: Questions, kind: RequestKind) -> None:
    async def change(request: Request, wish: Change) -> Any:
        try:
            answer = await questions.request(
                kind,
                by=wish.by or by_whom(request),
                node=wish.node,
                entry=wish.entry,
                reason=wish.reason,
                duration_seconds=wish.duration_seconds,
            )
        except NoAnswer as error:
            raise HTTPException(503, str(error)) from error
        body = Answer(ok=answer.ok, text=answer.text)
        return body if answer.ok else JSONResponse(body.model_dump(), 409)

    change.__doc__ = _CHANGES[kind]
    api.post(f"/{kind.value}", response_model=Answer, responses=CHANGES, name=kind.value)(change)


_CHANGES = {
    RequestKind.PAUSE: "End all runs and start none: in the fleet, on a node, or of one workload.",
    RequestKind.RESUME: "Take a pause back; for a workload also forget that it crashed.",
    RequestKind.DRAIN: "Start nothing new on a node; what runs goes on.",
    RequestKind.UNDRAIN: "Take a drain back.",
}


def by_whom(request: Request) -> str:
    """Return who asks, as far as we know."""
    return f"the page at {request.client.host}" if request.client else "the page"
