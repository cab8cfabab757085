"""What the pages of the past have in common: whom they ask, how they are filled and answered."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from gleaner.keeping import facts_of, has_sums, nothing_of
from gleaner.names import Called
from gleaner.tell import tell_simulated
from services.web.history.recorded import Found
from services.web.history.spans import HOUR, Preset, Span, date_of
from services.web.misread import plain
from services.web.pages import Pages
from services.web.questions import Questions
from services.web.shown.show import with_readings
from services.web.shown.view import Node
from services.web.streaming.live import Live
from services.web.streaming.packed import accepts_gzip
from services.web.streaming.sharing import Sharing, Written

SPAN = ("range", "since", "until")
"""The names of a range in an address."""
YOUNG = timedelta(hours=2)
PACKED_LEVEL = 5
"""A part is packed once for all who ask for it."""
PERIODS = {"hour": "Hour of day", "day": "Day", "week": "Week", "month": "Month"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a browser asks for, and up to where the answer knows everything for certain."""

    words: Mapping[str, str]
    part: str | None
    """A part of a page that follows the stream; None: the page."""
    at: datetime
    place: str
    """Where the stream was."""

    def wants(self, part: str) -> bool:
        """Whether a part is to be written."""
        return self.part in (None, part)


Write = Callable[[Asked], Coroutine[None, None, Written]]


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Whom a page asks, and who writes it."""

    live: Live
    questions: Questions
    pages: Pages
    names: Called
    sharing: Sharing

    def nodes(self) -> tuple[Node, ...]:
        """Return all nodes, without readings."""
        return self.live.told().facts

    def simulated(self, only: str | None = None) -> str | None:
        """Say what of the past of all nodes, or of one, never really happened."""
        asked = [one for one in self.nodes() if only in (None, "", one.node)]
        return tell_simulated([(one.name, one.simulated) for one in asked], only=bool(only))

    def node(self, name: str) -> Node | None:
        """Return a node with its readings; None if it is not known."""
        moment = self.live.told()
        found = next((one for one in moment.facts if one.node == name), None)
        return with_readings(found, moment.readings[name]) if found else None

    def nothing(self, span: Span, at: datetime) -> dict[str, Any]:
        """Return why nothing is there of a span, when something will be, and where it is now."""
        recorder, is_fine = self.live.fleet.recorder, span.length <= HOUR
        return {
            "nothing": nothing_of(recorder, at, span.until, is_fine=is_fine),
            "has_history": has_sums(recorder),
            "hour_is_sooner": not (is_fine or span.is_over or has_sums(recorder)),
        }

    def range_of_charts(self, at: datetime) -> str:
        """Return the range that nobody chose: a day would be empty while history is that young."""
        recorder = self.live.fleet.recorder
        if recorder is None:
            return "day"
        oldest = recorder.oldest
        begun = oldest.get("five_minutes") or oldest.get("days") or oldest.get("samples") or at
        return "hour" if at - begun < YOUNG else "day"

    def asked(self, request: Request, parts: Collection[str] = ()) -> Asked:
        """Return what a browser asks for, before anything is looked up for it."""
        words = asked_of(request)
        part = words.pop("part") if words.get("part") in parts else None
        if part is None:
            # Those who ask for parts were told what there is; they are many, and hasten nothing.
            self.live.flush()
        return Asked(words=words, part=part, at=self.live.now(), place=self.live.place)

    async def answer(self, request: Request, write: Write, parts: Collection[str] = ()) -> Response:
        """Answer with a page, or with one of its parts: this once for all who ask for the same."""
        asked = self.asked(request, parts)
        if asked.part is None:
            written = await write(asked)
        else:
            key = f"{request.url.path}?{request.url.query}"
            written = await self.sharing.get(key, lambda: write(asked))
        headers = {"Vary": "Accept-Encoding"}
        if accepts_gzip(request.headers.get("accept-encoding", "")):
            packed = headers | {"Content-Encoding": "gzip"}
            return HTMLResponse(written.packed, written.status, packed)
        return HTMLResponse(written.plain, written.status, headers)

    async def page(
        self,
        template: str,
        address: Asked,
        status: int = 200,
        /,
        *,
        misread: Iterable[str] = (),
        **values: Any,
    ) -> Written:
        """Return a page; written in a thread, because the stream must not wait for it.

        `misread` are sentences about what was asked for and is not shown.
        """
        fleet = self.live.fleet
        values = {"silent": False} | values
        values |= {
            "at": address.at,
            "now": address.at,
            "place": address.place,
            "part": address.part,
            "wants": address.wants,
            "misread": [*misread],
            "names": self.names,
            "keeping": facts_of(fleet.recorder),
            "history_problem": fleet.history_problem,
        }

        def write() -> Written:
            html = self.pages.fill(template, **values).encode()
            return Written(plain=html, packed=gzip.compress(html, PACKED_LEVEL), status=status)

        return await asyncio.to_thread(write)


def asked_of(request: Request) -> dict[str, str]:
    """Return what an address asks for."""
    return {plain(name): plain(value) for name, value in request.query_params.items()}


def span_values(
    span: Span, asked: Mapping[str, str], presets: tuple[Preset, ...], filters: Iterable[str] = ()
) -> dict[str, Any]:
    """Return what the choice of a range needs, with links one length back and forth."""
    kept = {"per": asked["per"]} if asked.get("per") in PERIODS else {}
    kept |= {name: asked[name] for name in filters if asked.get(name)}

    def moved(times: int) -> str:
        by = times * span.length
        return urlencode({**kept, **_dates(span.since + by, span.until + by)})

    return {
        "span": span,
        "presets": presets,
        "kept": kept,
        "since_date": date_of(span.since),
        "until_date": date_of(span.until, is_end=True),
        "earlier": moved(-1),
        "later": None if span.preset else moved(1),
        "span_query": urlencode(
            {"range": span.preset.name} if span.preset else _dates(span.since, span.until)
        ),
    }


def is_silent(*found: Found) -> bool:
    """Whether somebody did not answer: then a page asks again by itself."""
    return any(one.is_silent for one in found)


def missing(found: Found) -> str | None:
    """Return why something is not there; that nobody answered is told once on a page."""
    return "Not known just now." if found.is_silent else found.problem


def first_problem(*found: Found) -> str | None:
    """Return why something is missing, if anything is."""
    return next((one.problem for one in found if one.problem), None)


def _dates(since: datetime, until: datetime) -> dict[str, str]:
    return {"since": f"{since:%Y-%m-%dT%H:%M}", "until": f"{until:%Y-%m-%dT%H:%M}"}
