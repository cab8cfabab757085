"""The web application: pages, the live stream, static files, health, metrics and the API."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qs, quote

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from gleaner.bus.messages import RequestKind
from gleaner.names import Called
from services.web.access.security import Guard, Rules
from services.web.answers import Answers, GivenAnswer
from services.web.data.api import Change, by_whom, make_api
from services.web.data.exposition import CONTENT_TYPE, Exposition
from services.web.data.metrics import gather
from services.web.history.desk import Desk, asked_of
from services.web.history.gpu_page import NODE_PARTS, past_of_node, show_gpu, show_node_part
from services.web.history.history_page import show_history
from services.web.history.usage_page import show_usage
from services.web.misread import TEXT_MAX, left_out, plain, unknown
from services.web.pages import CARDS_MAX, REFRESH_SECONDS, STATIC, Pages
from services.web.questions import NoAnswer, Questions
from services.web.shown.filter import choices, from_query
from services.web.streaming.live import Live
from services.web.streaming.packed import accepts_gzip, packer, piece
from services.web.streaming.sharing import Sharing

PING_SECONDS = 15
SEND_SECONDS = 30.0
REFRESH_SECONDS_MIN = 5
FIRST_WORDS = ("model", "state", "user", "label", "node", "gpus", "refresh", "answer")
"""What an address of the first page may name."""
STREAM_HEADERS = {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
PING = b": ping\n\n"


def make_app(
    live: Live, questions: Questions, rules: Rules, names: Called | None = None
) -> Starlette:
    """Return the whole application."""
    pages, answers = Pages(), Answers()
    desk = Desk(
        live=live,
        questions=questions,
        pages=pages,
        names=names or Called(),
        sharing=Sharing(lambda: live.place),
    )

    async def page(
        request: Request, only: str | None = None, past: Mapping[str, Any] | None = None
    ) -> Response:
        peer = await rules.peer_of(request.scope)
        moment = live.moment()
        address = asked_of(request)
        wanted, misread = from_query(
            {} if only else address, choices(moment.facts if address else ())
        )
        refresh_seconds, no_refresh = _refresh_seconds(address.get("refresh", ""))
        misread += no_refresh
        if only is None:
            misread += left_out(address, FIRST_WORDS)
        is_known = only is None or any(node.node == only for node in moment.facts)
        nodes = [node.node for node in moment.facts if only in (None, node.node)]
        # In a thread: a thousand nodes take a while, and the stream must not wait.
        html = await asyncio.to_thread(
            pages.render,
            moment,
            # Relative, so that any prefix of a proxy in front of us is right.
            root="./" if only is None else "../",
            controls=rules.controls(request.headers, peer),
            only=only,
            past=past,
            answer=answers.get(address.get("answer", ""))
            if is_known
            else GivenAnswer(
                ok=False, text=unknown("node", only or "", (one.node for one in moment.facts))
            ),
            wanted=wanted,
            misread=misread,
            hour=live.last_hour(nodes if len(nodes) <= CARDS_MAX else ()),
            refresh_seconds=refresh_seconds,
        )
        return HTMLResponse(html, 200 if is_known else 404)

    async def fleet(request: Request) -> Response:
        return await page(request)

    async def node(request: Request) -> Response:
        only = plain(request.path_params["node"])
        if live.fleet.node(only) is None:
            return await page(request, only)
        if request.query_params.get("part") in NODE_PARTS:
            return await show_node_part(desk, request)
        return await page(request, only, await past_of_node(desk, only, desk.asked(request)))

    async def events(request: Request) -> Response:
        takes_gzip = accepts_gzip(request.headers.get("accept-encoding", ""))
        # Caddy's `encode gzip` holds events back for seconds unless the stream says it is encoded.
        coding = {"Content-Encoding": "gzip" if takes_gzip else "identity"}
        if request.method == "HEAD":
            return Response(headers=STREAM_HEADERS | coding, media_type="text/event-stream")
        ping = piece(PING) if takes_gzip else PING
        return EventSourceResponse(
            live.events(request.headers.get("last-event-id"), packed=takes_gzip),
            headers=STREAM_HEADERS | coding,
            ping=PING_SECONDS,
            ping_message_factory=lambda: ping,  # type: ignore[arg-type, return-value]
            send_timeout=SEND_SECONDS,
        )

    async def control(request: Request) -> Response:
        """Take a form of the page where script is off; answer with the page again."""
        body = await request.body()
        form = {key: values[0] for key, values in parse_qs(body.decode(errors="replace")).items()}
        identity = answers.keep(await _ask(questions, form, by_whom(request)))
        return RedirectResponse(f"./?answer={quote(identity)}", 303)

    async def health(_: Request) -> Response:
        if live.connected:
            return PlainTextResponse("ok\n")
        return PlainTextResponse("the broker cannot be reached\n", 503)

    async def metrics(request: Request) -> Response:
        # In the loop and in slices: a thread that computes lets the loop in every 5 ms only, and
        # each message from the broker would wait for that.
        exposition = Exposition()
        fleet = live.fleet
        for _ in gather(exposition, live.moment(), fleet.nodes.values(), fleet.recorder):
            await asyncio.sleep(0)
        takes_gzip = accepts_gzip(request.headers.get("accept-encoding", ""))
        headers = {"Vary": "Accept-Encoding"} | ({"Content-Encoding": "gzip"} if takes_gzip else {})
        chunks = exposition.chunks()
        return StreamingResponse(
            _packed(chunks) if takes_gzip else _plain(chunks),
            headers=headers,
            media_type=CONTENT_TYPE,
        )

    async def missing(request: Request, _: Exception) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse("there is nothing of this name\n", 404)
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        # Relative as everywhere, and never to another host.
        root = "../" * (path.count("/") - 1) or "./"
        text = f"There is no page {path[:TEXT_MAX]!r}."
        asked = desk.asked(request)
        written = await desk.page("missing.html", asked, 404, root=root, here="", text=text)
        return HTMLResponse(written.plain, written.status)

    return Starlette(
        routes=[
            Route("/", fleet),
            Route("/node/{node}", node),
            Route("/node/{node}/gpu/{gpu}", partial(show_gpu, desk)),
            Route("/usage", partial(show_usage, desk)),
            Route("/history", partial(show_history, desk)),
            Route("/events", events),
            Route("/control", control, methods=["POST"]),
            Route("/healthz", health),
            Route("/metrics", metrics),
            Mount("/api", make_api(live, questions)),
            Mount("/static", _Static(directory=STATIC)),
        ],
        middleware=[Middleware(Guard, rules=rules)],
        exception_handlers={404: missing},
    )


async def _packed(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Compress an answer as it is sent, beside the loop."""
    gzip = packer()
    for chunk in chunks:
        yield await asyncio.to_thread(gzip.compress, chunk)
    yield gzip.flush()


async def _plain(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Send an answer in the loop: what makes it is quick, and a thread is not."""
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(0)


def _refresh_seconds(text: str) -> tuple[int, list[str]]:
    """Return how often a page without script reloads, and what made no sense."""
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if seconds >= REFRESH_SECONDS_MIN:
        return seconds, []
    least = f"{text[:TEXT_MAX]!r} is no number of seconds from {REFRESH_SECONDS_MIN} on"
    why = f"{least}; without script this page reloads every {REFRESH_SECONDS} s."
    return REFRESH_SECONDS, [why] if text else []


async def _ask(questions: Questions, form: dict[str, str], by: str) -> GivenAnswer:
    given = {key: value for key, value in form.items() if key in Change.model_fields and value}
    try:
        kind, wish = RequestKind(form.get("kind", "")), Change.model_validate(given)
    except ValueError:
        return GivenAnswer(ok=False, text="The form was not understood.")
    try:
        answer = await questions.request(
            kind,
            by=by,
            node=wish.node,
            entry=wish.entry,
            reason=wish.reason,
            duration_seconds=wish.duration_seconds,
        )
    except NoAnswer as error:
        return GivenAnswer(ok=False, text=str(error))
    return GivenAnswer(ok=answer.ok, text=answer.text)


class _Static(StaticFiles):
    """Static files that a browser keeps for ever: their addresses change with their contents."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response
