"""The pages as HTML from the server: complete without script, every text escaped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.web import texts
from services.web.security import Controls
from services.web.series import resolution_text
from services.web.view import Node, Snapshot

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
CARDS_MAX = 40
"""With more nodes the page is the grid alone; each node has a page of its own."""
DENSE_GPUS = 96
"""With more GPUs tiles are small."""
STATE_TEXT = {"unheard": "not heard"}
STATE_SYMBOL = {"unheard": "unknown"}


class Pages:
    """Turns a snapshot into a page."""

    def __init__(self, dist: Path = STATIC / "dist") -> None:
        self._dist = dist
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "age": texts.age,
            "gib": texts.gibibytes,
            "ms": texts.milliseconds,
            "whole": texts.whole,
            "quantity": texts.quantity,
            "resolution": resolution_text,
        }
        self._environment.globals |= {
            "fill": _fill,
            "gpu_indices": _gpu_indices,
            "share": texts.share,
            "state_symbol": lambda state: STATE_SYMBOL.get(state, state),
            "state_text": lambda state: STATE_TEXT.get(state, state),
        }

    def render(
        self,
        snapshot: Snapshot,
        *,
        root: str,
        controls: Controls,
        only: str | None = None,
        answer: Any = None,
        past: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the page of the fleet, or of one node and its past."""
        nodes = [node for node in snapshot.nodes if only in (None, node.node)]
        return self.fill(
            "node.html" if past else "page.html",
            root=root,
            **past or {},
            here="" if only else "now",
            at=snapshot.at,
            now=snapshot.at,
            overview=snapshot.overview,
            nodes=nodes,
            has_cards=len(nodes) <= CARDS_MAX,
            is_dense=snapshot.overview.gpus > DENSE_GPUS,
            names={node.node: node.name for node in snapshot.nodes},
            controls=controls,
            only=only,
            answer=answer,
        )

    def fill(self, template: str, *, root: str, **values: Any) -> str:
        """Return a page with what every page needs: where it is, its scripts and its styles."""
        return self._environment.get_template(template).render(
            root=root,
            script=self.script(),
            style_version=_version(STATIC / "page.css"),
            past_version=_version(STATIC / "past.css"),
            icon_version=_version(STATIC / "icon.svg"),
            **values,
        )

    def script(self) -> Mapping[str, str] | None:
        """Return the names of the built scripts, or None if the front end was not built."""
        try:
            manifest = json.loads((self._dist / "manifest.json").read_text())
        except (OSError, ValueError):
            return None
        return {str(name): str(file) for name, file in manifest.items()}


@cache
def _version(path: Path) -> str:
    """Return a short digest, so that a browser may keep the file until it changes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:10]


def _fill(percent: float | None) -> int:
    return -1 if percent is None else max(0, min(10, int(percent / 10 + 0.5)))


def _gpu_indices(node: Node, gpus: tuple[str, ...]) -> str:
    indices = {gpu.gpu: gpu.index for gpu in node.gpus}
    return ", ".join(str(indices[gpu]) if indices.get(gpu) is not None else "?" for gpu in gpus)
