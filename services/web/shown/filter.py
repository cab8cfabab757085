"""Which GPUs somebody wants to see, as it stands in the page's address; pure.

`src/filter.ts` decides the same where script is on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from gleaner import names
from gleaner.bus.messages import GpuCondition
from gleaner.fleet import DIVIDED, Presence
from services.web.misread import unknown
from services.web.shown.view import Gpu, Node, ShownRun

STATES = (
    *(condition.value for condition in GpuCondition),
    DIVIDED,
    *(presence.value for presence in Presence if presence is not Presence.ONLINE),
)
GPUS_MAX = 64


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Empty words take everything."""

    model: str = ""
    state: str = ""
    user: str = ""
    label: str = ""
    node: str = ""
    """Part of its id or name."""
    gpus: int = 1
    """How many somebody needs on one node; for what is offered, not for the grid."""

    @property
    def is_empty(self) -> bool:
        """Whether it takes everything."""
        return not (self.model or self.state or self.user or self.label or self.node)

    def takes(self, node: Node, gpu: Gpu) -> bool:
        """Whether a GPU is to be shown."""
        node_word = self.node.lower()
        return (
            self.model in ("", gpu.model)
            and self.state in ("", shown_state(node, gpu))
            and (not self.user or self.user in users_of(gpu))
            and (not self.label or self.label in node.labels)
            and (node_word in node.node or node_word in node.name.lower())
        )

    def of(self, nodes: Iterable[Node]) -> list[Node]:
        """Return the nodes with the GPUs that are to be shown; nodes without any are left out."""
        if self.is_empty:
            return list(nodes)
        found = []
        for node in nodes:
            gpus = tuple(gpu for gpu in node.gpus if self.takes(node, gpu))
            if gpus:
                runs = _runs_on({gpu.gpu for gpu in gpus}, node.runs)
                found.append(node.model_copy(update={"gpus": gpus, "runs": runs}))
        return found


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What there is to choose from."""

    models: tuple[str, ...]
    labels: tuple[str, ...]
    states: tuple[str, ...] = STATES


def from_query(query: Mapping[str, str], there: Choices) -> tuple[Filter, list[str]]:
    """Return what stands in an address, and sentences about what made no sense there."""
    words = {key: query.get(key, "").strip() for key in ("model", "state", "user", "label", "node")}
    misread = []
    for key, known in (("model", there.models), ("state", there.states), ("label", there.labels)):
        if words[key] and words[key] not in known:
            misread.append(f"{unknown(key, words[key], known)} Here are all.")
            words[key] = ""
    gpus = query.get("gpus", "").strip()
    is_number = gpus.isascii() and gpus.isdigit() and len(gpus) < 4
    wanted = max(1, min(GPUS_MAX, int(gpus) if is_number else 1))
    if gpus and not (is_number and int(gpus) == wanted):
        misread.append(
            f"{gpus!r} is no number of GPUs from 1 to {GPUS_MAX}; here are offers for {wanted}."
        )
    return Filter(**words, gpus=wanted), misread


def shown_state(node: Node, gpu: Gpu) -> str:
    """Return the one word for a GPU: of a node that is not online that is the node's."""
    if node.presence is not Presence.ONLINE:
        return node.presence.value
    # Green would invite people to a GPU of which only the parts can be had.
    is_divided = gpu.state is GpuCondition.IDLE and not gpu.schedulable
    return DIVIDED if is_divided else gpu.state.value


def users_of(gpu: Gpu) -> tuple[str, ...]:
    """Return the people who hold a GPU, each once."""
    counted = (one for one in gpu.holders if one.run is None and one.ignored is None)
    return tuple(dict.fromkeys(names.user(one) for one in counted))


def _runs_on(gpus: Set[str], runs: Iterable[ShownRun]) -> tuple[ShownRun, ...]:
    """Return the runs on these GPUs, each without the others that it has."""
    found = ((run, tuple(gpu for gpu in run.gpus if gpu in gpus)) for run in runs)
    return tuple(run.model_copy(update={"gpus": mine}) for run, mine in found if mine)


def choices(nodes: Iterable[Node]) -> Choices:
    """Return what may be chosen in this fleet."""
    nodes = tuple(nodes)
    return Choices(
        models=tuple(sorted({gpu.model for node in nodes for gpu in node.gpus})),
        labels=tuple(sorted({label for node in nodes for label in node.labels})),
    )
