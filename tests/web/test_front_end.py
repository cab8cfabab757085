"""The front end's sources agree with the server, and bring nothing along that they should not."""

from __future__ import annotations

import json
import re
from pathlib import Path

from services.web import pages
from services.web.history.history_page import HISTORY_ROWS
from services.web.shown.board import Moment
from services.web.shown.overview import show_overview
from services.web.typescript import types
from tests.builders import NOW

FRONT_END = Path(pages.__file__).parent / "frontend"


def test_the_types_of_the_stream_are_those_of_the_view() -> None:
    assert (FRONT_END / "src" / "view.ts").read_text() == types(), (
        "run: python -m services.web.typescript > services/web/frontend/src/view.ts"
    )


def test_server_and_script_draw_the_same_number_of_cards_and_tiles() -> None:
    parts = (FRONT_END / "src" / "parts.ts").read_text()

    assert f"CARDS_MAX = {pages.CARDS_MAX};" in parts
    assert f"DENSE_GPUS = {pages.DENSE_GPUS};" in parts


def test_server_and_script_count_the_same_rows() -> None:
    rows = (FRONT_END / "src" / "rows.ts").read_text()

    assert f"ROWS_MAX = {HISTORY_ROWS};" in rows


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((FRONT_END / "package-lock.json").read_text())

    assert lock["packages"]
    for package in lock["packages"].values():
        assert "resolved" not in package
    assert "registry" not in (FRONT_END / "package-lock.json").read_text()


def test_nothing_is_loaded_from_elsewhere() -> None:
    for pattern in ("frontend/src/*.ts", "templates/*.html", "static/*.css"):
        for file in pages.FOLDER.glob(pattern):
            assert re.findall(r"https?://[\w.]+", file.read_text()) == [], file


def test_without_the_built_front_end_the_page_says_so_and_reloads(tmp_path: Path) -> None:
    overview = show_overview(
        (),
        connected=True,
        has_scheduler=True,
        scheduler=None,
        history_problem=None,
        evictions=(),
        version="0",
    )
    page = pages.Pages(tmp_path).render(
        Moment(at=NOW, overview=overview, facts=(), readings={}, users=()),
        root="./",
        controls="open",
    )

    assert "The front end was not built" in page
    assert '<meta http-equiv="refresh"' in page
    assert "<script" not in page


def test_every_symbol_that_is_drawn_is_in_the_sprite() -> None:
    folder = FRONT_END.parent
    sources = [*folder.glob("templates/*.html"), *FRONT_END.glob("src/*.ts")]
    text = "".join(source.read_text() for source in sources)
    drawn = set(re.findall(r'symbol\("([a-z]+)"\)|#s-([a-z]+)"', text))

    assert {one or other for one, other in drawn} <= set(re.findall(r'id="s-([a-z]+)"', text))
