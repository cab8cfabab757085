"""Which nodes and GPUs people mean: everything that is printed anywhere is understood; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gleaner import names
from gleaner.fleet import FleetView, GpuView, NodeView

PREFIX_LENGTH = 4
"""Of a UUID; what is shorter says too little."""


@dataclass(frozen=True, kw_only=True)
class Meant:
    """What a name stands for; nothing where nobody is called so."""

    nodes: tuple[NodeView, ...] = ()
    gpus: tuple[tuple[NodeView, GpuView], ...] = ()
    """All of the nodes, or those that are named."""
    indices: str | None = None
    """What stands behind the node's name; None: the node itself is named."""


def meant(view: FleetView, target: str, displayed: Mapping[str, str]) -> Meant:
    """Find `gpu1:0`, `gpu1:0,1`, `gpu1-0` as in tables of users, `gpu1`, or a UUID's beginning.

    A node's id comes first, then the name that is shown for it, and its host's, short or whole.
    """
    if found := nodes_called(view, target, displayed):
        gpus = tuple((node, gpu) for node in found for gpu in node.gpus(view.at))
        return Meant(nodes=found, gpus=gpus)
    begun = tuple(
        (node, gpu)
        for node in view.nodes.values()
        for gpu in node.gpus(view.at)
        if _begins(gpu, target)
    )
    if begun:
        return Meant(gpus=begun)
    for separator in ":-":
        name, _, indices = target.rpartition(separator)
        if found := nodes_called(view, name, displayed):
            wanted = indices.split(",")
            some = tuple(
                (node, gpu)
                for node in found
                for gpu in node.gpus(view.at)
                if names.index(gpu.index) in wanted
            )
            return Meant(nodes=found, gpus=some, indices=indices)
    return Meant()


def nodes_called(view: FleetView, name: str, displayed: Mapping[str, str]) -> tuple[NodeView, ...]:
    """Return the node of this id, else all that are shown under this name."""
    if name in view.nodes:
        return (view.nodes[name],)
    short = names.short_hosts(view.nodes.values(), displayed)
    return tuple(
        node
        for node in view.nodes.values()
        if name and name in (displayed.get(node.node), short[node.node], names.host(node))
    )


def _begins(gpu: GpuView, target: str) -> bool:
    return len(target) >= PREFIX_LENGTH and any(
        name.lower().startswith(target.lower())
        for name in (gpu.gpu, gpu.gpu.removeprefix("GPU-").removeprefix("MIG-"))
    )
