"""Texts that anybody may have chosen, made safe to be shown."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text without what would steer a terminal or a log."""
    return "".join(one if one.isprintable() else "?" for one in text)
