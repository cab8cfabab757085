"""What hosts, models and users are called where there is little room."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gleaner.bus.messages import Holder
from gleaner.fleet import GpuView, NodeView

_ADDRESS = re.compile(r"[0-9.]+|.*:.*")
"""IPv4, or anything with a colon: IPv6. The part before the first dot would name nobody."""
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*")


@dataclass(frozen=True, kw_only=True)
class Called:
    """What the administrator calls nodes and models: `web.display_names`, `web.model_names`."""

    nodes: Mapping[str, str] = field(default_factory=dict)
    """By node id."""
    models: Mapping[str, str] = field(default_factory=dict)
    """By what the driver says."""

    def node(self, node: str | None) -> str:
        """Return what a node is called, also one that is no longer there."""
        return self.nodes.get(node, node) if node else "?"

    def model(self, model: str | None) -> str:
        """Return what a model is called."""
        return short_model(model or None, self.models) or "unknown model"


def host(node: NodeView) -> str:
    """Return the whole name of a node's host; its id while nothing is known of it.

    A simulated node is on no host: the one that it runs on has other GPUs, or none.
    """
    if node.is_simulated or node.inventory is None:
        return node.node
    return node.inventory.host or node.node


def short_hosts(
    nodes: Iterable[NodeView], display_names: Mapping[str, str] = MappingProxyType({})
) -> Mapping[str, str]:
    """Return names by node: as it shall be displayed, else the host's up to the first dot.

    Whole where two would be alike.
    """
    whole = {node.node: display_names.get(node.node) or host(node) for node in nodes}
    short = {node: name if node in display_names else _short(name) for node, name in whole.items()}
    used = Counter(short.values())
    return {node: name if used[name] == 1 else whole[node] for node, name in short.items()}


def node(node: str, host: str | None, display_names: Mapping[str, str]) -> str:
    """Return what a node is called: its id says more than an address, `10-0-0-5` less."""
    if node in display_names:
        return display_names[node]
    return host if host and _ADDRESS.fullmatch(host) else node


def gpu(node: str, *indices: int | None) -> str:
    """Return what GPUs of a node are called, everywhere: `gpu1:0`, `gpu1:0,1`."""
    return f"{node}:{','.join(map(index, indices))}"


def index(number: int | None) -> str:
    """Return a GPU's index; `?` where nobody said it."""
    return "?" if number is None else str(number)


def _short(name: str) -> str:
    return name if _ADDRESS.fullmatch(name) else name.split(".")[0] or name


def model(gpu: GpuView, model_names: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return what a GPU's model is called; `unknown` where the driver does not say."""
    return short_model(gpu.inventory.name if gpu.inventory else None, model_names) or "unknown"


def short_model(name: str | None, model_names: Mapping[str, str]) -> str | None:
    """Return the administrator's short name for a model, or the driver's without its maker's."""
    if name is None:
        return None
    return model_names.get(name) or name.removeprefix("NVIDIA ").removeprefix("GeForce ")


def user(holder: Holder) -> str:
    """Return who a process belongs to; `unknown` where nobody can tell."""
    if holder.user:
        return holder.user
    return "unknown" if holder.user_id is None else f"uid {holder.user_id}"


def is_plain(name: str) -> bool:
    """Whether a host's name may stand in a line to copy: no option, nothing for a shell."""
    return _HOST.fullmatch(name) is not None
