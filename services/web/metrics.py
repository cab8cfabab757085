"""`/metrics`: the live state in Prometheus' format, made anew for each scrape.

A custom collector, so that a GPU or node that is gone leaves no series behind. What is not known
now has no sample: an absent series is honest, a zero would be a lie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from gleaner.bus.messages import GpuCondition, RecorderState
from gleaner.fleet import Presence
from services.web.view import Gpu, Node, ShownRun, Snapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
GPU_LABELS = ("node", "gpu", "index")
STAGES = ("noticed_to_term", "term_to_exit", "exit_to_clear", "noticed_to_clear")


def render(snapshot: Snapshot, recorder: RecorderState | None = None) -> bytes:
    """Return everything as Prometheus' text."""
    registry = CollectorRegistry()
    registry.register(_Fleet(snapshot, recorder))
    return bytes(generate_latest(registry))


class _Fleet(Collector):
    def __init__(self, snapshot: Snapshot, recorder: RecorderState | None) -> None:
        self._snapshot = snapshot
        self._recorder = recorder

    def collect(self) -> Iterator[Metric]:
        nodes = self._snapshot.nodes
        yield from _overview(self._snapshot)
        yield from _nodes(self._snapshot)
        yield from _gpus([gpu for node in nodes for gpu in node.gpus])
        yield _runs(nodes)
        yield _blockers(nodes)
        yield _evictions(self._snapshot.overview.evictions)
        yield from _history(self._recorder)


def _overview(snapshot: Snapshot) -> Iterator[Metric]:
    overview = snapshot.overview
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
        yield GaugeMetricFamily(name, text, value=float(value))


def _nodes(snapshot: Snapshot) -> Iterator[Metric]:
    presence = GaugeMetricFamily(
        "gleaner_node_presence", "1 for what the node is now.", labels=("node", "presence")
    )
    age = GaugeMetricFamily(
        "gleaner_node_readings_age_seconds", "Age of the readings.", labels=("node",)
    )
    active = GaugeMetricFamily(
        "gleaner_node_people_active", "Whether somebody who counts is active.", labels=("node",)
    )
    paused = GaugeMetricFamily(
        "gleaner_node_paused",
        "Whether the node is paused, by the scheduler or its own file.",
        labels=("node",),
    )
    drained = GaugeMetricFamily(
        "gleaner_node_drained", "Whether nothing new starts on the node.", labels=("node",)
    )
    simulated = GaugeMetricFamily(
        "gleaner_node_simulated", "Whether the node does not really exist.", labels=("node",)
    )
    for node in snapshot.nodes:
        for one in Presence:
            presence.add_metric((node.node, one.value), float(node.presence is one))
        if node.readings_at is not None:
            age.add_metric((node.node,), (snapshot.at - node.readings_at).total_seconds())
        if node.people_active is not None:
            active.add_metric((node.node,), float(node.people_active))
        paused.add_metric((node.node,), float(bool(node.pause or node.local_pause)))
        drained.add_metric((node.node,), float(node.drain is not None))
        simulated.add_metric((node.node,), float(node.simulated))
    yield from (presence, age, active, paused, drained, simulated)


def _gpus(gpus: list[Gpu]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "gleaner_gpu_state", "1 for the GPU's state.", labels=(*GPU_LABELS, "state")
    )
    holders = GaugeMetricFamily(
        "gleaner_gpu_holders", "Processes of others that hold the GPU.", labels=GPU_LABELS
    )
    # A sum over all must not have a GPU in MIG mode beside its instances.
    usable = [gpu for gpu in gpus if gpu.schedulable]
    for gpu in usable:
        labels = _labels(gpu)
        for one in GpuCondition:
            state.add_metric((*labels, one.value), float(gpu.state is one))
        if gpu.last is None:
            others = [one for one in gpu.holders if not (one.run or one.ignored)]
            holders.add_metric(labels, len(others))
    yield from (state, holders)
    for name, text, field in (
        ("utilization_percent", "Share of time in which a kernel ran.", "utilization_percent"),
        ("memory_used_bytes", "Memory in use.", "memory_used_bytes"),
        ("memory_total_bytes", "Memory there is.", "memory_total_bytes"),
        ("temperature_celsius", "Temperature.", "temperature_celsius"),
        ("power_watts", "Power drawn.", "power_watts"),
    ):
        family = GaugeMetricFamily(f"gleaner_gpu_{name}", text, labels=GPU_LABELS)
        for gpu in usable if name.startswith("memory") else gpus:
            value = getattr(gpu, field)
            if value is not None:
                family.add_metric(_labels(gpu), float(value))
        yield family


def _runs(nodes: tuple[Node, ...]) -> Metric:
    family = GaugeMetricFamily("gleaner_runs", "Runs by state.", labels=("node", "entry", "state"))
    counts = Counter((run.node, run.entry, run.state.value) for node in nodes for run in node.runs)
    for labels, number in sorted(counts.items()):
        family.add_metric(labels, number)
    return family


def _blockers(nodes: tuple[Node, ...]) -> Metric:
    family = GaugeMetricFamily(
        "gleaner_gpus_blocked", "GPUs on which nothing starts, by reason.", labels=("node", "code")
    )
    counts = Counter(
        (gpu.node, code)
        for node in nodes
        for gpu in node.gpus
        for code in {blocker.code for blocker in gpu.blockers or ()}
    )
    for labels, number in sorted(counts.items()):
        family.add_metric(labels, number)
    return family


def _evictions(runs: tuple[ShownRun, ...]) -> Metric:
    family = SummaryMetricFamily(
        "gleaner_recent_eviction_seconds",
        "How long each stage of leaving took, in the last evictions that the page shows.",
        labels=("stage",),
    )
    for stage in STAGES:
        values = [getattr(run.stages, stage) for run in runs if run.stages is not None]
        known = [value for value in values if value is not None]
        family.add_metric((stage,), count_value=len(known), sum_value=sum(known))
    return family


def _history(recorder: RecorderState | None) -> Iterator[Metric]:
    for name, text in (
        ("used_bytes", "What all rows of history take, with their indexes."),
        ("max_bytes", "What they may take."),
        ("lost_events", "Events that nodes told of and that never came."),
        ("unreadable_messages", "Messages that were kept as they came."),
    ):
        value = getattr(recorder, name, None)
        if value is not None:
            yield GaugeMetricFamily(f"gleaner_history_{name}", text, value=float(value))


def _labels(gpu: Gpu) -> tuple[str, str, str]:
    return gpu.node, gpu.gpu, "" if gpu.index is None else str(gpu.index)
