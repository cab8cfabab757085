"""`gleaner free`: GPUs that a person may take now, and the lines to copy for that.

Idle GPUs are free; those that only our own runs hold are free on demand: the runs leave when
somebody comes. What is not known for certain now (a silent node) is not offered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from gleaner import names, taking
from gleaner.bus.messages import GpuCondition
from gleaner.fleet import FleetView, GpuView, NodeView, Presence

# Without a unit 40 would be 40 bytes, and whoever wrote it would be told that any GPU fits.
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(I?)B?\s*", re.IGNORECASE)
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4}
COLUMNS = ("model", "node", "host", "index", "gpu", "on_demand", "simulated", "memory_total_bytes")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What somebody needs."""

    model: str = ""
    """Part of the model's name, in any case."""
    memory_bytes: float = 0
    """Of each GPU."""
    count: int = 1
    """How many, on one node and of one model."""


@dataclass(frozen=True, kw_only=True)
class Free:
    """One GPU that may be taken."""

    gpu: str
    index: int | None
    on_demand: bool
    """A run of ours has it, and leaves when somebody comes."""
    memory_total_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Offer:
    """The free GPUs of one model on one node, idle ones first."""

    model: str
    node: str
    host: str
    simulated: bool
    gpus: tuple[Free, ...]
    wanted: int

    @property
    def ssh(self) -> str | None:
        """The line that leads there; None where there is nothing to lead to."""
        return None if self.simulated else taking.ssh(self.host)

    @property
    def visible_devices(self) -> str | None:
        """The assignment that picks as many as were wanted; None for what does not exist."""
        if self.simulated:
            return None
        return taking.visible_devices([(one.gpu, one.index) for one in self.gpus[: self.wanted]])


def parse_bytes(text: str) -> float:
    """Return the bytes of `40G` (as GPUs are sold: 10^9) or `40GiB`; raise ValueError."""
    amount = _AMOUNT.fullmatch(text)
    if amount is None:
        raise ValueError(f"{text!r} is no amount of memory; expected something like 40G or 24GiB")
    return float(float(amount[1]) * (1024 if amount[3] else 1000) ** _POWERS[amount[2].upper()])


def free(view: FleetView, wish: Wish) -> list[Offer]:
    """Return who has enough of what is wanted: real before simulated, by model, most idle first."""
    offers = [
        offer
        for node in view.nodes.values()
        for offer in _offers(view, node, wish)
        if len(offer.gpus) >= wish.count
    ]
    return sorted(
        offers,
        key=lambda one: (
            one.simulated,
            one.model,
            -sum(not gpu.on_demand for gpu in one.gpus),
            one.node,
        ),
    )


def _offers(view: FleetView, node: NodeView, wish: Wish) -> Iterator[Offer]:
    by_model: dict[str, list[Free]] = {}
    for gpu in node.gpus(view.at):
        if _fits(gpu, wish):
            by_model.setdefault(names.model(gpu), []).append(_free(gpu))
    for model, found in by_model.items():
        yield Offer(
            model=model,
            node=node.node,
            host=names.host(node),
            simulated=node.is_simulated,
            gpus=tuple(sorted(found, key=lambda one: one.on_demand)),
            wanted=wish.count,
        )


def _fits(gpu: GpuView, wish: Wish) -> bool:
    # Only a node that is online says idle or ours: see GpuView.condition.
    if gpu.condition not in (GpuCondition.IDLE, GpuCondition.OURS):
        return False
    if not gpu.is_usable:
        return False
    name = (gpu.inventory and gpu.inventory.name) or ""
    return wish.model.lower() in name.lower() and (_memory(gpu) or 0) >= wish.memory_bytes


def _free(gpu: GpuView) -> Free:
    return Free(
        gpu=gpu.gpu,
        index=gpu.index,
        on_demand=gpu.condition is GpuCondition.OURS,
        memory_total_bytes=_memory(gpu),
    )


def _memory(gpu: GpuView) -> int | None:
    if gpu.inventory is not None and gpu.inventory.memory_total_bytes is not None:
        return gpu.inventory.memory_total_bytes
    return gpu.reading.memory_total_bytes if gpu.reading else None


def nothing(view: FleetView, wish: Wish) -> str:
    """Say in one line that nothing fits, and what that is measured by."""
    said = [f"no node has {wish.count} free GPUs" if wish.count > 1 else "no GPU is free"]
    if wish.model:
        said.append(f"of a model with {wish.model!r} in its name")
    if wish.memory_bytes:
        said.append(f"with at least {wish.memory_bytes / 1e9:g} GB each")
    anything = sum(len(offer.gpus) for offer in free(view, Wish()))
    rest = f"{anything} are free in all" if anything else "nothing else is free"
    silent = silence(view)
    return f"{' '.join(said)}; {rest}{'; ' if silent else ''}{silent}"


def silence(view: FleetView) -> str:
    """Say whose GPUs are not offered because nobody can tell; empty if there are none."""
    silent = [
        f"{node.node} is {node.presence(view.at).value}"
        for node in view.nodes.values()
        if node.presence(view.at) is not Presence.ONLINE
    ]
    shown = ", ".join(silent[:8]) + ("…" if len(silent) > 8 else "")
    return f"not offered, because nothing is known now: {shown}" if silent else ""


def lines(view: FleetView, offers: Sequence[Offer]) -> Iterator[Text]:
    """Yield the offers line by line; what is to be copied stands alone and must not be wrapped."""
    for model in dict.fromkeys(offer.model for offer in offers):
        of_model = [offer for offer in offers if offer.model == model]
        yield Text(f"{model}: {_counts(of_model)}", style="bold")
        for offer in of_model:
            yield from _lines(offer)
    silent = silence(view)
    if silent:
        yield Text(silent, style="dim")


def _counts(offers: Sequence[Offer]) -> str:
    on_demand = sum(gpu.on_demand for offer in offers for gpu in offer.gpus)
    idle = sum(len(offer.gpus) for offer in offers) - on_demand
    return ", ".join(
        text
        for number, text in ((idle, f"{idle} idle"), (on_demand, f"{on_demand} on demand"))
        if number
    )


def _lines(offer: Offer) -> Iterator[Text]:
    label = " (simulated: nothing there is real)" if offer.simulated else ""
    yield Text(f"  {offer.node}{label}")
    for on_demand in (False, True):
        indices = [one.index for one in offer.gpus if one.on_demand is on_demand]
        if indices:
            word = "on demand" if on_demand else "idle"
            yield Text(f"    {names.gpu(offer.node, *indices)}  {word}")
    for line in (offer.ssh, offer.visible_devices):
        if line:
            yield Text(f"    {line}", style="cyan")


def as_json(view: FleetView, offers: Sequence[Offer]) -> dict[str, Any]:
    """Return the offers for programs."""
    return {
        "at": view.at.isoformat(),
        "offers": [
            {
                "model": offer.model,
                "node": offer.node,
                "host": offer.host,
                "simulated": offer.simulated,
                "ssh": offer.ssh,
                "visible_devices": offer.visible_devices,
                "gpus": [
                    {
                        "gpu": one.gpu,
                        "index": one.index,
                        "on_demand": one.on_demand,
                        "memory_total_bytes": one.memory_total_bytes,
                    }
                    for one in offer.gpus
                ],
            }
            for offer in offers
        ],
    }


def rows(offers: Sequence[Offer]) -> list[tuple[object, ...]]:
    """Return one row for each GPU, in the order of COLUMNS."""
    return [
        (
            offer.model,
            offer.node,
            offer.host,
            one.index,
            one.gpu,
            one.on_demand,
            offer.simulated,
            one.memory_total_bytes,
        )
        for offer in offers
        for one in offer.gpus
    ]
