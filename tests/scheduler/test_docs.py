"""The page on scheduling lists the codes that the code has, no more and no fewer."""

from __future__ import annotations

import re
from pathlib import Path

from gleaner.bus.messages import GpuCondition

ROOT = Path(__file__).parents[2]


def codes_in_the_code() -> set[str]:
    text = "".join(path.read_text() for path in (ROOT / "services" / "scheduler").glob("*.py"))
    written = set(re.findall(r'(?:code=|"code": )"(\w+)"', text))
    # The conditions of a GPU are codes of their own, but for idle, which is no reason.
    return written | {condition.value for condition in GpuCondition} - {"idle"}


def codes_in_the_page() -> set[str]:
    return set(
        re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "scheduling.md").read_text(), re.MULTILINE)
    )


def test_every_blocker_is_explained_and_nothing_else() -> None:
    assert codes_in_the_page() == codes_in_the_code()
