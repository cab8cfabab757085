"""What nodes, GPUs and models are called on the pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gleaner.names import short_model
from services.web.view import Gpu, Node


@dataclass(frozen=True, kw_only=True)
class Names:
    """Shorter names by settings."""

    nodes: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)

    def node(self, node: str | None) -> str:
        """Return what a node is called, also one that is no longer there."""
        return self.nodes.get(node, node) if node else "?"

    def model(self, model: str | None) -> str:
        """Return what a model is called."""
        return short_model(model or None, self.models) or "unknown model"


def gpus_of(nodes: Iterable[Node]) -> dict[str, Gpu]:
    """Return all GPUs by their UUID."""
    return {gpu.gpu: gpu for node in nodes for gpu in node.gpus}


def find_gpu(node: Node, wanted: str) -> Gpu | None:
    """Return a node's GPU by its UUID, else by its index."""
    by_id = next((gpu for gpu in node.gpus if gpu.gpu == wanted), None)
    return by_id or next((gpu for gpu in node.gpus if str(gpu.index) == wanted), None)
