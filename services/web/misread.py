"""What an address asks for and we do not have, in a sentence each; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from services.web.shown.view import Node

TEXT_MAX = 200
"""Characters of a filter in an address."""
NAMES_TOLD = 12
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])


def plain(text: str) -> str:
    """Return what an address brings without control characters: HTML allows none of them."""
    return text.translate(_CONTROLS)[:TEXT_MAX]


def left_out(asked: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """Say which names in an address mean nothing to a page."""
    names = [repr(name[:TEXT_MAX]) for name in asked if name not in {*known}]
    if not names:
        return []
    means, was = ("means", "was") if len(names) == 1 else ("mean", "were")
    return [f"{', '.join(names)} {means} nothing to this page and {was} left out."]


def unknown(what: str, given: str, known: Iterable[object], where: str = "") -> str:
    """Say that there is no such thing, and what there is."""
    names = [*map(str, known)]
    told = ", ".join(names[:NAMES_TOLD]) + (", …" if len(names) > NAMES_TOLD else "")
    verb = "is" if len(names) == 1 else "are"
    return f"There is no {what} {given!r}{where}; there {verb} {told or 'none'}."


def not_known_now(asked: Mapping[str, str], nodes: Sequence[Node]) -> list[str]:
    """Say which node or GPU of an address is not known now; it may have been once."""
    names = [one.node for one in nodes]
    node, gpu = asked.get("node"), asked.get("gpu")
    found = [unknown("node", node, names)] if node and node not in names else []
    if gpu and not any(gpu == one.gpu for node in nodes for one in node.gpus):
        found.append(f"No GPU that is known now has the UUID {gpu!r}.")
    return found
