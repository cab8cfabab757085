"""What the pages of the past have in common: whom they ask, and how they are filled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from gleaner.keeping import facts_of
from gleaner.names import Called
from services.web.live import Live
from services.web.pages import Pages
from services.web.questions import Questions
from services.web.recorded import Found
from services.web.spans import Preset, Span, date_of
from services.web.view import Node

TEXT_MAX = 200
"""Characters of a filter in an address."""
SPAN = ("range", "since", "until")
"""The names of a range in an address."""
PERIODS = {"day": "Day", "week": "Week", "month": "Month"}


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Whom a page asks, and who writes it."""

    live: Live
    questions: Questions
    pages: Pages
    names: Called

    def nodes(self) -> tuple[Node, ...]:
        """Return all nodes; whether their readings are in them is not said."""
        return self.live.snapshot().nodes

    def node(self, name: str) -> Node | None:
        """Return a node with its readings; None if it is not known."""
        return next((one for one in self.live.snapshot().nodes if one.node == name), None)

    async def page(
        self, template: str, status: int = 200, *, misread: Iterable[str] = (), **values: Any
    ) -> Response:
        """Return a page; written in a thread, because the stream must not wait for it.

        `misread` are sentences about what was asked for and is not shown.
        """
        now = self.live.now()
        fleet = self.live.fleet
        values |= {"misread": [*misread]}
        values |= {"keeping": facts_of(fleet.recorder), "history_problem": fleet.history_problem}
        html = await asyncio.to_thread(
            self.pages.fill, template, at=now, now=now, names=self.names, **values
        )
        return HTMLResponse(html, status)


def asked_of(request: Request) -> dict[str, str]:
    """Return what an address asks for."""
    return {name: value[:TEXT_MAX] for name, value in request.query_params.items()}


def left_out(asked: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """Say which names in an address mean nothing to a page."""
    names = [repr(name[:TEXT_MAX]) for name in asked if name not in {*known}]
    if not names:
        return []
    means, was = ("means", "was") if len(names) == 1 else ("mean", "were")
    return [f"{', '.join(names)} {means} nothing to this page and {was} left out."]


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


def first_problem(*found: Found) -> str | None:
    """Return why something is missing, if anything is."""
    return next((one.problem for one in found if one.problem), None)


def _dates(since: datetime, until: datetime) -> dict[str, str]:
    return {"since": f"{since:%Y-%m-%dT%H:%M}", "until": f"{until:%Y-%m-%dT%H:%M}"}
