"""`/metrics`: the live state in Prometheus' format, made anew for each scrape; pure.

Made anew, so that a GPU or node that is gone leaves no series behind. What is not known now has
no sample: an absent series is honest, a zero would be a lie. docs/operations/metrics.md tells
people about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from gleaner.bus.messages import GpuCondition, RecorderState
from gleaner.fleet import NodeView, Presence
from services.web.data.exposition import Exposition, Family, labels
from services.web.data.gpu_metrics import add_gpu, add_host
from services.web.shown.board import Moment
from services.web.shown.view import Gpu, Node, Overview, ShownRun

NODES_AT_A_TIME = 10
# A sum over all must not have a GPU in MIG mode beside its instances.
TOLD_BY_INSTANCES = {"memory_used_bytes": None, "unattributed_memory_bytes": None}
STAGES = ("noticed_to_term", "term_to_exit", "exit_to_clear", "noticed_to_clear")


def _gauge(name: str, text: str) -> Family:
    return Family(name=name, text=text)


PRESENCE = _gauge("gleaner_node_presence", "1 for what the node is now.")
AGE = _gauge("gleaner_node_readings_age_seconds", "Age of the readings.")
ACTIVE = _gauge("gleaner_node_people_active", "Whether somebody who counts is active.")
PAUSED = _gauge(
    "gleaner_node_paused", "Whether the node is paused, by the scheduler or its own file."
)
DRAINED = _gauge("gleaner_node_drained", "Whether nothing new starts on the node.")
SIMULATED = _gauge("gleaner_node_simulated", "Whether the node does not really exist.")
STATE = _gauge("gleaner_gpu_state", "1 for the GPU's state.")
HOLDERS = _gauge("gleaner_gpu_holders", "Processes of others that hold the GPU.")
MEMORY_TOTAL = _gauge("gleaner_gpu_memory_total_bytes", "Memory there is.")
RUNS = _gauge("gleaner_runs", "Runs by state.")
BLOCKED = _gauge("gleaner_gpus_blocked", "GPUs on which nothing starts, by reason.")
EVICTIONS = Family(
    name="gleaner_recent_eviction_seconds",
    text="How long each stage of leaving took, in the last evictions that the page shows.",
    kind="summary",
)


def gather(
    page: Exposition,
    moment: Moment,
    views: Iterable[NodeView],
    recorder: RecorderState | None = None,
) -> Iterator[None]:
    """Add everything to a page, some nodes at a time: others may have their turn in between."""
    _add_overview(page, moment.overview)
    _add_history(page, recorder)
    known = {view.node: view for view in views}
    for number, node in enumerate(moment.facts, start=1):
        _add_node(page, node, moment, known.get(node.node))
        if number % NODES_AT_A_TIME == 0:
            yield


def _add_overview(page: Exposition, overview: Overview) -> None:
    for name, text, value in (
        ("gleaner_bus_connected", "Whether the page has the broker.", overview.connected),
        ("gleaner_scheduler_online", "Whether a scheduler beats.", overview.scheduler_online),
        ("gleaner_paused", "Whether the fleet is paused.", bool(overview.pauses)),
        (
            "gleaner_history_problem",
            "Whether history is not kept just now, or not all of it.",
            overview.history_problem is not None,
        ),
        ("gleaner_gpus", "GPUs that are known.", overview.gpus),
        ("gleaner_gpus_free", "GPUs a person may take at once: idle or ours.", overview.free),
    ):
        page.add(_gauge(name, text), "", value)
    _add_evictions(page, overview.evictions)


def _add_node(page: Exposition, node: Node, moment: Moment, view: NodeView | None) -> None:
    # Prometheus takes an empty label for an absent one: `{simulated=""}` are those that exist.
    who = labels(node=node.node, simulated="true" if node.simulated else "")
    for one in Presence:
        page.add(PRESENCE, f'{who},presence="{one.value}"', node.presence is one)
    page.add(ACTIVE, who, node.people_active)
    page.add(PAUSED, who, bool(node.pause or node.local_pause))
    page.add(DRAINED, who, node.drain is not None)
    page.add(SIMULATED, who, node.simulated)
    _add_runs_and_blockers(page, node)
    gpus = {gpu.gpu: _labels(node, gpu) for gpu in node.gpus}
    for gpu in node.gpus:
        if gpu.schedulable:
            _add_state(page, gpus[gpu.gpu], gpu)
    telemetry = view.current_telemetry(moment.at) if view else None
    if view is None or telemetry is None:
        return
    read_at = moment.readings[node.node].readings_at
    page.add(AGE, who, (moment.at - read_at).total_seconds() if read_at else None)
    add_host(page, who, telemetry.host)
    usable = {gpu.gpu for gpu in node.gpus if gpu.schedulable}
    for one_view in view.gpus(moment.at):
        reading = one_view.reading
        if reading is None or one_view.gpu not in gpus:
            continue
        if one_view.gpu not in usable:
            reading = reading.model_copy(update=TOLD_BY_INSTANCES)
        add_gpu(page, gpus[one_view.gpu], reading)


def _add_state(page: Exposition, who: str, gpu: Gpu) -> None:
    for one in GpuCondition:
        page.add(STATE, f'{who},state="{one.value}"', gpu.state is one)
    if gpu.last is None:
        others = [one for one in gpu.holders if not (one.run or one.ignored)]
        page.add(HOLDERS, who, len(others))
    page.add(MEMORY_TOTAL, who, gpu.memory_total_bytes)


def _add_runs_and_blockers(page: Exposition, node: Node) -> None:
    runs = Counter((run.entry, run.state.value) for run in node.runs)
    for (entry, state), number in sorted(runs.items()):
        page.add(RUNS, labels(node=node.node, entry=entry, state=state), number)
    blockers = Counter(
        code for gpu in node.gpus for code in {blocker.code for blocker in gpu.blockers or ()}
    )
    for code, number in sorted(blockers.items()):
        page.add(BLOCKED, labels(node=node.node, code=code), number)


def _add_evictions(page: Exposition, runs: tuple[ShownRun, ...]) -> None:
    for stage in STAGES:
        values = [getattr(run.stages, stage) for run in runs if run.stages is not None]
        known = [value for value in values if value is not None]
        page.add(EVICTIONS, labels(stage=stage), len(known), suffix="_count")
        page.add(EVICTIONS, labels(stage=stage), sum(known), suffix="_sum")


def _add_history(page: Exposition, recorder: RecorderState | None) -> None:
    for name, text in (
        ("used_bytes", "What all rows of history take, with their indexes."),
        ("max_bytes", "What they may take."),
        ("lost_events", "Events that nodes told of and that never came."),
        ("unreadable_messages", "Messages that were kept as they came."),
    ):
        page.add(_gauge(f"gleaner_history_{name}", text), "", getattr(recorder, name, None))


def _labels(node: Node, gpu: Gpu) -> str:
    return labels(
        node=node.node,
        gpu="" if gpu.index is None else gpu.index,
        uuid=gpu.gpu,
        model=gpu.model,
        simulated="true" if node.simulated else "",
    )
