"""What hosts, models and users are called where there is little room."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from gleaner.bus.messages import Holder
from gleaner.fleet import GpuView, NodeView

_ADDRESS = re.compile(r"[0-9.]+|.*:.*")
"""IPv4, or anything with a colon: IPv6. The part before the first dot would name nobody."""
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*")


def host(node: NodeView) -> str:
    """Return the whole name of a node's host; its id while nothing is known of it."""
    return (node.inventory and node.inventory.host) or node.node


def short_hosts(nodes: Iterable[NodeView]) -> Mapping[str, str]:
    """Return hosts' names up to the first dot, by node; whole where two would be alike."""
    whole = {node.node: host(node) for node in nodes}
    short = {node: _short(name) for node, name in whole.items()}
    used = Counter(short.values())
    return {node: name if used[name] == 1 else whole[node] for node, name in short.items()}


def _short(name: str) -> str:
    return name if _ADDRESS.fullmatch(name) else name.split(".")[0] or name


def model(gpu: GpuView) -> str:
    """Return the name of a GPU without its maker's; `unknown` where the driver does not say."""
    name = gpu.inventory.name if gpu.inventory else None
    return (name or "unknown").removeprefix("NVIDIA ").removeprefix("GeForce ")


def user(holder: Holder) -> str:
    """Return who a process belongs to; `unknown` where nobody can tell."""
    if holder.user:
        return holder.user
    return "unknown" if holder.user_id is None else f"uid {holder.user_id}"


def is_plain(name: str) -> bool:
    """Whether a host's name may stand in a line to copy: no option, nothing for a shell."""
    return _HOST.fullmatch(name) is not None
