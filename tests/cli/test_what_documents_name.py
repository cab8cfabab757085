"""What the documents name is there: `make` targets, files, settings and commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from gleaner.cli.app import app

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("mosquitto/*.md"))
)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
COMMANDS = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
FOLDERS = ("gleaner", "services", "tests", "docs", "scripts", "benchmarks", "mosquitto")

document = pytest.mark.parametrize("name", DOCUMENTS, ids=str)


def text(name: Path) -> str:
    return (ROOT / name).read_text()


@document
def test_every_make_target_exists(name: Path) -> None:
    named = set(re.findall(r"(?:`|^ +)make ([a-z-]+)", text(name), re.MULTILINE))

    assert named <= TARGETS


@document
def test_every_command_exists(name: Path) -> None:
    named = set(re.findall(r"(?:`|^ +)(?:sudo )?gleaner ([a-z]+)", text(name), re.MULTILINE))

    assert named <= COMMANDS


@document
def test_every_link_leads_somewhere(name: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text(name))

    missing = [link for link in links if not (ROOT / name).parent.joinpath(link).exists()]

    assert missing == []


@document
def test_every_path_exists(name: Path) -> None:
    # Topics begin with gleaner/v1, and what is built is not there yet.
    pattern = rf"`((?:{'|'.join(FOLDERS)})/(?!v1)[\w./-]+)`"

    missing = [path for path in re.findall(pattern, text(name)) if not (ROOT / path).exists()]

    assert missing == []


def test_contributing_tells_every_target_that_people_need() -> None:
    told = set(re.findall(r"`([a-z-]+)`", text(Path("CONTRIBUTING.md"))))

    assert TARGETS - told == {"help", "setup-test"}


def test_contributing_tells_of_no_target_that_is_not_there() -> None:
    cells = r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \|"
    rows = re.findall(cells, text(Path("CONTRIBUTING.md")), re.MULTILINE)
    told = set(re.findall(r"`([a-z-]+)`", " ".join(rows)))

    assert told
    assert told <= TARGETS


def test_make_takes_no_target_for_a_file() -> None:
    phony = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert phony
    assert set(phony[1].split()) == TARGETS
