"""The pages as HTML from the server: complete without script, every text escaped."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from gleaner import names, taking
from gleaner.bus.messages import Holder
from services.web import texts
from services.web.access.security import Controls
from services.web.history.series import resolution_text
from services.web.shown.board import Moment
from services.web.shown.filter import Filter, choices, shown_state
from services.web.shown.held import held
from services.web.shown.show import with_readings
from services.web.shown.view import Gpu, GpuReadings, Node
from services.web.streaming.live_parts import Part

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
CARDS_MAX = 40
"""With more nodes the page is the grid alone; each node has a page of its own."""
DENSE_GPUS = 96
"""With more GPUs tiles are small."""
ROWS_MAX = 100
"""So many users, and so many held GPUs, are listed."""
DEAD_BYTES = 10 * 2**20
"""A dead process that the driver lists with less is nothing to speak of."""
UNATTRIBUTED_BYTES = 256 * 2**20
"""The driver itself always has some."""
REFRESH_SECONDS = 30
STATE_TEXT = {"unheard": "not heard"}
STATE_SYMBOL = {"unheard": "unknown"}
MARKER = "\x00"
"""Where a fill goes into a row that is kept; in no text, since HTML does not allow it."""


class Pages:
    """Turns a snapshot into a page."""

    def __init__(self, dist: Path = STATIC / "dist") -> None:
        self._dist = dist
        self._rows: dict[str, tuple[Node, tuple[str, bool], list[str]]] = {}
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "age": texts.age,
            "amount": texts.amount,
            "gib": texts.gibibytes,
            "memory": texts.memory,
            "rate": texts.rate,
            "duration": texts.duration,
            "hours": texts.hours,
            "ms": texts.milliseconds,
            "whole": texts.whole,
            "quantity": texts.quantity,
            "resolution": resolution_text,
        }
        self._environment.globals |= {
            "command": taking.command,
            "fill": _fill,
            "follows": _follows,
            "gpu_indices": _gpu_indices,
            "gpu_name": names.gpu,
            "level": texts.level,
            "ratio": texts.ratio,
            "rows_max": ROWS_MAX,
            "share": texts.share,
            "shown_holders": shown_holders,
            "shown_state": shown_state,
            "spark": texts.spark,
            "spark_text": texts.spark_text,
            "state_symbol": lambda state: STATE_SYMBOL.get(state, state),
            "state_text": lambda state: STATE_TEXT.get(state, state),
            "unattributed_from": UNATTRIBUTED_BYTES,
            "user_name": names.user,
        }
        self._environment.tests["longer_than"] = lambda gpus, number: len(gpus) >= number

    def render(
        self,
        moment: Moment,
        *,
        root: str,
        controls: Controls,
        only: str | None = None,
        answer: Any = None,
        wanted: Filter | None = None,
        hour: Mapping[str, Sequence[int | None]] | None = None,
        refresh_seconds: int = REFRESH_SECONDS,
        past: Mapping[str, Any] | None = None,
        misread: Sequence[str] = (),
    ) -> str:
        """Return the page of the fleet, or of one node and its past."""
        wanted = wanted or Filter()
        facts = [node for node in moment.facts if only in (None, node.node)]
        has_cards = len(facts) <= CARDS_MAX
        nodes = wanted.of(
            with_readings(node, moment.readings[node.node]) if has_cards else node for node in facts
        )
        is_dense = moment.overview.gpus > DENSE_GPUS
        known: dict[str, Any] = {
            "at": moment.at,
            "now": moment.at,
            "overview": moment.overview,
            "users": moment.users,
            "nodes": nodes,
            "filter": wanted,
            "choices": choices(facts),
            "matches": sum(len(node.gpus) for node in nodes),
            "gpus_known": sum(len(node.gpus) for node in facts),
            "held_gpus": held(moment.facts),
            "hour": hour or {},
            "has_cards": has_cards,
            "is_dense": is_dense,
            "names": {node.node: node.name for node in moment.facts},
            "controls": controls,
            "only": only,
            "answer": answer,
            "refresh_seconds": refresh_seconds,
            "here": "" if only else "now",
            "place": "",
            "silent": False,
            **self._common(root),
            **(past or {}),
        }
        known["misread"] = [*misread, *known.get("misread", ())]
        if is_dense and only is None:
            known["rows"] = self._dense_rows(nodes, moment, known, keeps=not has_cards)
        template = "node.html" if past else "page.html"
        return self._environment.get_template(template).render(known)

    def fill(self, template: str, *, root: str, **values: Any) -> str:
        """Return another page with what every page needs."""
        return self._environment.get_template(template).render(self._common(root) | values)

    def _common(self, root: str) -> dict[str, Any]:
        """Return where a page is, its scripts and its styles."""
        return {
            "root": root,
            "script": self.script(),
            "style_version": _version(STATIC / "page.css"),
            "past_version": _version(STATIC / "past.css"),
            "icon_version": _version(STATIC / "icon.svg"),
        }

    def _dense_rows(
        self, nodes: Sequence[Node], moment: Moment, known: Mapping[str, Any], *, keeps: bool
    ) -> Iterator[Markup]:
        """Yield the rows of the grid; one is drawn anew only when a fact of its node changed.

        Drawing a thousand rows takes a third of a second, putting the fills in a hundredth.
        """
        parts: Any = self._environment.get_template("parts.html").make_module(dict(known))
        where = (known["root"], known["has_cards"])
        for node in nodes:
            kept = self._rows.get(node.node)
            if kept is None or kept[0] is not node or kept[1] != where:
                kept = (node, where, str(parts.dense_row(node, MARKER)).split(MARKER))
                if keeps:
                    self._rows[node.node] = kept
            fills = _fills(node, moment.readings[node.node].gpus, moment)
            pieces = [*(a + b for a, b in zip(kept[2][:-1], fills, strict=True)), kept[2][-1]]
            yield Markup("".join(pieces))  # noqa: S704 - the pieces come from a template

    def script(self) -> Mapping[str, str] | None:
        """Return the names of the built scripts, or None if the front end was not built."""
        try:
            manifest = json.loads((self._dist / "manifest.json").read_text())
        except (OSError, ValueError):
            return None
        return {str(name): str(file) for name, file in manifest.items()}


@pass_context
def _follows(context: Context, name: str) -> Markup:
    """Return the attributes of an element that follows the stream; none where it does not."""
    part: Part | None = context["live"].get(name)
    if part is None:
        return Markup()
    pairs = {"data-part": name, **part.attributes}
    return Markup("").join(Markup(' {}="{}"').format(*pair) for pair in pairs.items())


@cache
def _version(path: Path) -> str:
    """Return a short digest, so that a browser may keep the file until it changes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:10]


def shown_holders(gpu: Gpu) -> list[Holder]:
    """Return the processes that are worth a word."""
    return [one for one in gpu.holders if one.alive or (one.memory_used_bytes or 0) >= DEAD_BYTES]


def _fills(node: Node, rows: Sequence[GpuReadings], moment: Moment) -> list[str]:
    """Return the fills of a node's tiles; a filter may have left some of its GPUs out."""
    if len(rows) == len(node.gpus):
        return [str(_fill(row[0])) for row in rows]
    whole = next(one for one in moment.facts if one.node == node.node)
    of = {gpu.gpu: row[0] for gpu, row in zip(whole.gpus, rows, strict=True)}
    return [str(_fill(of[gpu.gpu])) for gpu in node.gpus]


def _fill(percent: float | None) -> int:
    """Return tenths, rounded up: what is above a threshold must be seen to be."""
    return -1 if percent is None else max(0, min(10, math.ceil(percent / 10)))


def _gpu_indices(node: Node, gpus: tuple[str, ...]) -> str:
    indices = {gpu.gpu: gpu.index for gpu in node.gpus}
    return ", ".join(str(indices[gpu]) if indices.get(gpu) is not None else "?" for gpu in gpus)
