"""The answer first: how many GPUs are free, which ones, and what else there is to know; pure.

Each node is tallied when it changes, and the tallies are added up: a thousand nodes are too many
to look through whenever one of them says something.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gleaner import names
from gleaner.bus.messages import GpuCondition, SchedulerState
from gleaner.fleet import NodeView, Presence
from services.web.shown.view import FreeModel, Gpu, Node, Offer, Overview, ShownRun

OFFERS = 4
"""So many nodes are offered for each model."""
NOT_COUNTED = 3
FREE = (GpuCondition.IDLE, GpuCondition.OURS)


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What one node adds to the overview."""

    presence: Presence
    gpus: int
    states: Mapping[str, int]
    simulated: int
    has_readings: bool
    totals: Mapping[str, int]
    """Schedulable GPUs by model."""
    offers: Mapping[str, Offer]
    """By model."""
    not_counted: str | None
    """Whose processes are left out of the table of users, and why."""


def answer_of(
    presence: Presence, gpus: Iterable[Gpu], *, simulated: bool
) -> tuple[str, tuple[str, ...]]:
    """Return one node's headline and details, as `show_overview` does for the fleet."""
    counted = [gpu for gpu in gpus if gpu.schedulable]
    number = _count(len(counted), "GPU")
    origin = ("simulated",) if simulated else ()
    if presence is not Presence.ONLINE:
        return f"nothing is known now of {number}", origin
    if not counted:
        return "no GPU here", origin
    states = Counter(gpu.state.value for gpu in counted)
    free = sum(states[state.value] for state in FREE)
    return f"{free} of {number} free", (*_states(states), *origin)


def tally(node: Node, view: NodeView, *, has_readings: bool) -> Tally:
    """Count one node."""
    gpus = [gpu for gpu in node.gpus if gpu.schedulable]
    free: dict[str, list[Gpu]] = {}
    for gpu in gpus:
        if gpu.state in FREE:
            free.setdefault(gpu.model, []).append(gpu)
    return Tally(
        presence=node.presence,
        gpus=len(gpus),
        states=Counter(gpu.state.value for gpu in gpus),
        simulated=len(node.gpus) if node.simulated else 0,
        has_readings=has_readings,
        totals=Counter(gpu.model for gpu in gpus),
        offers={model: _offer(node, found) for model, found in free.items()},
        not_counted=_not_counted(node, view),
    )


def show_overview(
    tallies: Iterable[Tally],
    *,
    connected: bool,
    has_scheduler: bool,
    scheduler: SchedulerState | None,
    history_problem: str | None,
    evictions: tuple[ShownRun, ...],
    version: str,
) -> Overview:
    """Add the tallies of all nodes up."""
    tallies = tuple(tallies)
    states: Counter[str] = Counter()
    for one in tallies:
        states.update(one.states)
    presences = Counter(one.presence for one in tallies)
    gpus = sum(one.gpus for one in tallies)
    free = sum(states[state.value] for state in FREE)
    silent = sum(one.presence is Presence.ONLINE and not one.has_readings for one in tallies)
    return Overview(
        headline=_headline(len(tallies), gpus, free),
        details=_details(states, presences, silent, sum(one.simulated for one in tallies)),
        connected=connected,
        gpus=gpus,
        free=free,
        states={state.value: states[state.value] for state in GpuCondition},
        nodes=len(tallies),
        nodes_online=presences[Presence.ONLINE],
        scheduler_online=has_scheduler,
        history_problem=history_problem,
        free_models=_free_models(tallies),
        not_counted=_some([one.not_counted for one in tallies if one.not_counted]),
        pauses=tuple(pause for pause in (scheduler.pauses if scheduler else ()) if not pause.node),
        evictions=evictions,
        version=version,
    )


def _headline(nodes: int, gpus: int, free: int) -> str:
    if not nodes:
        return "No node has been heard yet"
    return f"{free} of {_count(gpus, 'GPU')} free" if gpus else "No GPU is known yet"


def _details(
    states: Mapping[str, int], presences: Mapping[Presence, int], silent: int, simulated: int
) -> tuple[str, ...]:
    found = _states(states)
    found += [
        f"{_count(presences[presence], 'node')} {text}"
        for presence, text in (
            (Presence.STALE, "stale"),
            (Presence.OFFLINE, "offline"),
            (Presence.UNHEARD, "not heard yet"),
        )
        if presences[presence]
    ]
    if silent:
        found.append(f"{_count(silent, 'node')} without current readings")
    if simulated:
        found.append(f"{_count(simulated, 'GPU')} simulated")
    return tuple(found)


def _states(states: Mapping[str, int]) -> list[str]:
    found = [f"{states['ours']} of them at work"] if states["ours"] else []
    return found + [
        f"{states[state]} {state}"
        for state in ("busy", "held", "dirty", "lost", "unknown")
        if states[state]
    ]


def _free_models(tallies: Sequence[Tally]) -> tuple[FreeModel, ...]:
    totals: Counter[str] = Counter()
    offers: dict[str, list[Offer]] = {}
    for one in tallies:
        totals.update(one.totals)
        for model, offer in one.offers.items():
            offers.setdefault(model, []).append(offer)
    found = [
        FreeModel(
            model=model,
            free=sum(len(offer.gpus) for offer in of_model),
            total=totals[model],
            nodes=len(of_model),
            offers=_best(of_model),
        )
        for model, of_model in offers.items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.free, one.model)))


def _best(offers: list[Offer]) -> tuple[Offer, ...]:
    by_idle = sorted(offers, key=lambda one: (one.simulated, -one.idle, -one.on_demand, one.name))
    best = by_idle[:OFFERS]
    # Who needs many GPUs at once is served by a node whose runs have to leave for that.
    largest = max(by_idle, key=lambda one: (not one.simulated, len(one.gpus)))
    if len(largest.gpus) > max(len(one.gpus) for one in best):
        best[-1] = largest
    return tuple(best)


def _offer(node: Node, free: Sequence[Gpu]) -> Offer:
    idle_first = sorted(free, key=lambda gpu: gpu.state is not GpuCondition.IDLE)
    idle = sum(gpu.state is GpuCondition.IDLE for gpu in free)
    leads_there = node.host and not node.simulated and names.is_plain(node.host)
    return Offer(
        node=node.node,
        name=node.name,
        simulated=node.simulated,
        idle=idle,
        on_demand=len(free) - idle,
        host=node.host if leads_there else None,
        gpus=tuple((gpu.gpu, gpu.index) for gpu in idle_first),
    )


def _not_counted(node: Node, view: NodeView) -> str | None:
    if node.presence is Presence.ONLINE:
        return None
    number = sum(
        holder.run is None and holder.ignored is None
        for state in view.states.values()
        for holder in state.holders
    )
    if not number:
        return None
    last = "last process" if number == 1 else f"last {number} processes"
    return f"{node.name} is {node.presence.value}: its {last} not counted"


def _some(texts: Sequence[str]) -> tuple[str, ...]:
    if len(texts) <= NOT_COUNTED:
        return tuple(texts)
    return (*texts[:NOT_COUNTED], f"and {len(texts) - NOT_COUNTED} more nodes")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
