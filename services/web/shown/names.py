"""GPUs of what is shown, by what an address calls them."""

from __future__ import annotations

from collections.abc import Iterable

from gleaner import names
from services.web.shown.view import Gpu, Node


def gpus_of(nodes: Iterable[Node]) -> dict[str, Gpu]:
    """Return all GPUs by their UUID."""
    return {gpu.gpu: gpu for node in nodes for gpu in node.gpus}


def find_gpu(node: Node, wanted: str) -> Gpu | None:
    """Return a node's GPU by its UUID, else by its index or name: `0`, `atlas:0`."""
    by_id = next((gpu for gpu in node.gpus if gpu.gpu == wanted), None)
    return by_id or next((gpu for gpu in node.gpus if wanted in _called(node, gpu)), None)


def uuid_of(nodes: Iterable[Node], wanted: str) -> str:
    """Return the UUID of a GPU of this name, `atlas:0`; what is no name stays as it is."""
    named = (gpu.gpu for node in nodes for gpu in node.gpus if wanted in _called(node, gpu)[1:])
    return next(named, wanted)


def _called(node: Node, gpu: Gpu) -> tuple[str, ...]:
    return (
        names.index(gpu.index),
        names.gpu(node.node, gpu.index),
        names.gpu(node.name, gpu.index),
    )


def index_of(gpu: Gpu) -> str:
    """Return what an address calls a GPU, as short as can be."""
    return gpu.gpu if gpu.index is None else str(gpu.index)
