"""Whole tables as files: written as they come, and visibly broken off where they cannot be."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Send

from gleaner.bus.message import Utc
from gleaner.bus.messages import HistoryAnswer
from gleaner.export import (
    MEDIA_TYPES,
    Encoder,
    Format,
    Incomplete,
    NoParquet,
    Row,
    What,
    asked_of,
    encoder,
    pages,
)
from services.web.history.recorded import Refused, answered
from services.web.questions import NoAnswer, Questions

logger = logging.getLogger(__name__)

PAGE_ROWS = 1000
AT_ONCE = 4
"""Files; each keeps the recorder busy as long as it comes."""


class Download(StreamingResponse):
    """A file that ends visibly unfinished when the recorder is gone for good.

    Without the last chunk the server cuts the connection, and the browser says that it failed.
    """

    async def stream_response(self, send: Send) -> None:
        """Send what comes; see `StreamingResponse`."""
        try:
            await super().stream_response(send)
        except Incomplete as error:
            logger.warning("a download was cut off %s", error)


class Downloads:
    """All files that are on their way to a browser."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self._places = asyncio.Semaphore(AT_ONCE)

    async def file(self, name: str, table: Encoder, form: Format = "csv", **asked: Any) -> Download:
        """Return a file of all rows, or raise HTTPException where not even its first page comes."""

        async def ask(cursor: str | None) -> HistoryAnswer:
            return answered(await self._questions.history(limit=PAGE_ROWS, cursor=cursor, **asked))

        if self._places.locked():
            raise HTTPException(503, f"{AT_ONCE} downloads run already; try again later")
        found = pages(ask, NoAnswer, Refused)
        try:
            first = await anext(found)
        except Refused as error:
            raise HTTPException(error.status, str(error)) from error
        except NoAnswer as error:
            raise HTTPException(503, str(error)) from error
        return Download(
            self._parts(table, [*first], found),
            media_type=MEDIA_TYPES[form],
            headers={"Content-Disposition": f'attachment; filename="gleaner-{name}.{form}"'},
        )

    async def _parts(
        self, table: Encoder, first: list[Row], rest: AsyncGenerator[Any, None]
    ) -> AsyncGenerator[bytes, None]:
        async with self._places, contextlib.aclosing(rest):
            yield table.begin() + table.page(first)
            async for page in rest:
                yield table.page(page)
            yield table.end()


def add_downloads(api: FastAPI, downloads: Downloads, problem: type[BaseModel]) -> None:
    """Add the route; `problem` is what its refusals look like."""

    def refusal(what: str) -> dict[str, Any]:
        return {"model": problem, "description": what}

    @api.get(
        "/export/{what}",
        response_class=Download,
        responses={
            200: {
                "content": {kind.partition(";")[0]: {} for kind in MEDIA_TYPES.values()},
                "description": "The file, newest first, as it comes.",
            },
            404: refusal("Something is named that was never recorded."),
            501: refusal("What writes Parquet is not installed."),
            503: refusal("The recorder did not answer, or too many downloads run."),
        },
    )
    async def export(
        what: What,
        form: Annotated[Format, Query(alias="format")] = "csv",
        node: Annotated[str | None, Query(pattern=r"^[a-z0-9_-]{1,63}$")] = None,
        user: Annotated[str | None, Query(max_length=200)] = None,
        since: Utc | None = None,
        until: Utc | None = None,
    ) -> Download:
        """Return everything that was recorded, as one file."""
        try:
            table = encoder(what, form)
        except NoParquet as error:
            raise HTTPException(501, str(error)) from error
        about = asked_of(what) | {"node": node, "user": user, "since": since, "until": until}
        return await downloads.file(what, table, form, **about)
