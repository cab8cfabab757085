"""`gleaner why`: what stands against a GPU or a workload, in the scheduler's own words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gleaner import names
from gleaner.bus.messages import Blocker
from gleaner.cli.meant import meant, nodes_called
from gleaner.cli.now.status import has_scheduler
from gleaner.fleet import FleetView, GpuView, NodeView, Presence


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Why nothing (more) runs on one GPU, or why one workload does not (more)."""

    what: str
    blockers: tuple[Blocker, ...]
    note: str
    """What holds beside the blockers: who is there, what runs."""

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "what": self.what,
            "note": self.note,
            "blockers": [blocker.model_dump(mode="json") for blocker in self.blockers],
        }


class NotFound(Exception):
    """Nothing has this name; the text says what there is."""


def why(
    view: FleetView, target: str, displayed: Mapping[str, str] = MappingProxyType({})
) -> list[Answer]:
    """Answer for `gpu1:0`, `gpu1`, the beginning of a UUID, or a workload (`fold`, `gpu1/fold`)."""
    found = meant(view, target, displayed)
    answers = [_gpu_answer(view, node, gpu) for node, gpu in found.gpus]
    wanted_node, _, name = target.rpartition("/")
    on = [node.node for node in nodes_called(view, wanted_node, displayed)]
    answers += [
        _workload_answer(view, node, workload.entry, workload.blockers, workload.runs)
        for node in view.nodes.values()
        for workload in node.workloads()
        if workload.entry == name and (not wanted_node or node.node in on)
    ]
    if not answers and found.indices is None and found.nodes:
        return [_node_answer(view, node) for node in found.nodes]
    if not answers:
        raise NotFound(_not_found(view, target))
    return answers


def lines(answers: Sequence[Answer]) -> Iterator[str]:
    """Yield the answers for people: what stands against all of them is said once, before them."""
    first, *others = answers
    common = [one for one in first.blockers if all(one in other.blockers for other in others)]
    if not others:
        common = []
    if common:
        yield f"all {len(answers)}:"
        yield from (f"  - {blocker.text}" for blocker in common)
    for answer in answers:
        yield f"{answer.what}: {answer.note}"
        yield from (f"  - {one.text}" for one in answer.blockers if one not in common)
        if not answer.blockers:
            yield "  nothing stands against it"


def _node_answer(view: FleetView, node: NodeView) -> Answer:
    """Answer for a node of which no GPU is known."""
    presence = node.presence(view.at)
    limitations = node.inventory.limitations if node.inventory else ()
    return Answer(
        what=node.node,
        blockers=tuple(Blocker(code="no_gpu", text=text) for text in limitations)
        or (Blocker(code="no_gpu", text="no GPU is known there"),),
        note=f"no GPU is known there, so nothing can run; the node is {presence.value}",
    )


def _gpu_answer(view: FleetView, node: NodeView, gpu: GpuView) -> Answer:
    what = f"{names.gpu(node.node, gpu.index)} ({gpu.gpu})"
    presence = node.presence(view.at)
    if presence is not Presence.ONLINE:
        return Answer(
            what=what,
            blockers=(Blocker(code="offline", text=f"node {node.node} is {presence.value}"),),
            note="nobody looks at it, so nothing is known",
        )
    if gpu.run is not None:
        note = f"{gpu.run.entry} runs here: {gpu.run.reason}"
    else:
        reasons = ", ".join(gpu.state.reasons) if gpu.state else ""
        note = f"{gpu.word}{': ' if reasons else ''}{reasons}"
    return Answer(what=what, blockers=_blockers(view, gpu.blockers, gpu.run is not None), note=note)


def _workload_answer(
    view: FleetView,
    node: NodeView,
    entry: str,
    blockers: tuple[Blocker, ...],
    runs: tuple[str, ...],
) -> Answer:
    note = f"{len(runs)} run{'s' if len(runs) != 1 else ''} of it"
    return Answer(
        what=f"{entry} on {node.node}", blockers=_blockers(view, blockers, bool(runs)), note=note
    )


def _blockers(
    view: FleetView, said: tuple[Blocker, ...] | None, is_running: bool
) -> tuple[Blocker, ...]:
    if not has_scheduler(view) and not is_running:
        silent = Blocker(code="no_scheduler", text="no scheduler is heard: nothing new starts")
        return (silent, *(said or ()))
    if said is None:
        return (Blocker(code="not_said", text="the scheduler has not said anything about it yet"),)
    return said


def _not_found(view: FleetView, target: str) -> str:
    gpus = [
        names.gpu(node.node, gpu.index)
        for node in view.nodes.values()
        for gpu in node.gpus(view.at)
    ]
    workloads = sorted({one.entry for node in view.nodes.values() for one in node.workloads()})
    there = [
        f"{what}: {', '.join(known[:8])}{'…' if len(known) > 8 else ''}"
        for what, known in (("GPUs", gpus), ("nodes", list(view.nodes)), ("workloads", workloads))
        if known
    ]
    there_is = "; ".join(there) or "nothing is known"
    return f"{target}: there is no such GPU, node or workload ({there_is})"
