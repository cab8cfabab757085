"""GPUs of what is shown, by what an address calls them."""

from __future__ import annotations

from collections.abc import Iterable

from services.web.view import Gpu, Node


def gpus_of(nodes: Iterable[Node]) -> dict[str, Gpu]:
    """Return all GPUs by their UUID."""
    return {gpu.gpu: gpu for node in nodes for gpu in node.gpus}


def find_gpu(node: Node, wanted: str) -> Gpu | None:
    """Return a node's GPU by its UUID, else by its index."""
    by_id = next((gpu for gpu in node.gpus if gpu.gpu == wanted), None)
    return by_id or next((gpu for gpu in node.gpus if str(gpu.index) == wanted), None)


def index_of(gpu: Gpu) -> str:
    """Return what an address calls a GPU, as short as can be."""
    return gpu.gpu if gpu.index is None else str(gpu.index)
