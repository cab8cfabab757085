"""One thing that `gleaner doctor` looked at, and what is to be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found."""

    name: str
    verdict: Literal["ok", "warn", "fail"]
    text: str
    """What is; for what is not well also what it costs."""
    remedy: str = ""


def ok(name: str, text: str) -> Finding:
    """Return that something is well."""
    return Finding(name=name, verdict="ok", text=text)


def warn(name: str, text: str, remedy: str = "") -> Finding:
    """Return that something works less well than it could."""
    return Finding(name=name, verdict="warn", text=text, remedy=remedy)


def fail(name: str, text: str, remedy: str) -> Finding:
    """Return that something must be mended before Gleaner can work here."""
    return Finding(name=name, verdict="fail", text=text, remedy=remedy)
