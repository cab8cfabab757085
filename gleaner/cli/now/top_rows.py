"""What `gleaner top` shows: rows of GPUs, users and runs, sorted, filtered and cut to fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gleaner import names
from gleaner.bus.messages import GpuCondition, Run
from gleaner.cli.now.status import COLOURS, explain, has_scheduler, style
from gleaner.cli.now.users import NOTHING_ELSE, not_counted, users
from gleaner.cli.now.why import why
from gleaner.cli.words import duration, gibibytes, percent
from gleaner.fleet import FleetView, GpuView, NodeView, Presence

WIDE = 110
"""From this many columns on there is room for what can be done without."""
LEAST = 12
"""How narrow the last column may become before the table has to be scrolled."""


class Page(StrEnum):
    """What is listed."""

    GPUS = "GPUs"
    USERS = "users"
    RUNS = "runs"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column; the last of a page takes the room that is left."""

    title: str
    width: int = 0
    is_extra: bool = False
    """Left out of a narrow terminal."""
    is_number: bool = False
    """Most first, when somebody sorts by it; words begin with A."""
    keeps_end: bool = False
    """The end says more than the beginning: `…room-417:0`."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What stands in a column, and how it compares."""

    text: str
    value: float | str | None
    """None is unknown, and comes last however it is sorted."""
    style: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line; its key stays the same while its cells change."""

    key: str
    cells: tuple[Cell, ...]
    sought: str
    """More that a filter finds: UUID, host, model, holders."""

    def has(self, words: Sequence[str]) -> bool:
        """Whether all words, in lower case, stand somewhere in it."""
        text = " ".join([*(cell.text for cell in self.cells), self.sought]).lower()
        return all(word in text for word in words)


COLUMNS: dict[Page, tuple[Column, ...]] = {
    Page.GPUS: (
        Column(title="GPU", width=16, keeps_end=True),
        Column(title="Model", width=20, is_extra=True),
        Column(title="State", width=7),
        Column(title="For", width=8, is_number=True),
        Column(title="Use", width=5, is_number=True),
        Column(title="Memory", width=13, is_number=True),
        Column(title="Who, or why not"),
    ),
    Page.USERS: (
        Column(title="User", width=18),
        Column(title="Memory", width=11, is_number=True),
        Column(title="Procs", width=5, is_number=True),
        Column(title="Longest", width=8, is_number=True),
        Column(title="GPUs"),
    ),
    Page.RUNS: (
        Column(title="Workload", width=12),
        Column(title="Run", width=20, is_extra=True),
        Column(title="State", width=12),
        Column(title="For", width=8, is_number=True),
        Column(title="GPUs", width=14, keeps_end=True),
        Column(title="Why"),
    ),
}


def widths(page: Page, room: int, padding: int = 2) -> list[int]:
    """Return the width of each column; 0 for one that is left out."""
    shown = [
        0 if column.is_extra and room < WIDE else column.width for column in COLUMNS[page][:-1]
    ]
    used = sum(shown) + padding * (1 + sum(width > 0 for width in shown))
    return [*shown, max(LEAST, room - used)]


def fit(text: str, width: int, *, keeps_end: bool = False) -> str:
    """Return a text on one line that is no longer than this."""
    line = " ".join(text.split())
    if len(line) <= width:
        return line
    return "…" + line[len(line) - width + 1 :] if keeps_end else line[: width - 1] + "…"


def rows(view: FleetView, page: Page, called: names.Called = NOTHING_ELSE) -> list[Row]:
    """Return all lines of a page, in the fleet's own order."""
    match page:
        case Page.GPUS:
            return list(_gpu_rows(view, called))
        case Page.USERS:
            return list(_user_rows(view, called))
        case Page.RUNS:
            return list(_run_rows(view, called))


def arrange(found: Sequence[Row], *, words: str, column: int | None, downwards: bool) -> list[Row]:
    """Return the lines that have all the words, in the order of a column, the unknown last."""
    wanted = words.lower().split()
    kept = [row for row in found if row.has(wanted)]
    if column is None:
        return kept
    known = [row for row in kept if row.cells[column].value is not None]
    unknown = [row for row in kept if row.cells[column].value is None]
    return [*sorted(known, key=lambda row: _order(row, column), reverse=downwards), *unknown]


def _order(row: Row, column: int) -> tuple[str, float]:
    value = row.cells[column].value
    return (value, 0.0) if isinstance(value, str) else ("", value or 0.0)


def _gpu_rows(view: FleetView, called: names.Called) -> Iterator[Row]:
    for node in view.nodes.values():
        now = node.node_time(view.at)
        is_online = node.presence(view.at) is Presence.ONLINE
        for gpu in node.gpus(view.at):
            since = gpu.state.since if gpu.state and is_online else None
            seconds = None if since is None else (now - since).total_seconds()
            reading = gpu.reading
            used = reading.memory_used_bytes if reading else None
            total = reading.memory_total_bytes if reading else None
            who = _who(node, gpu, view)
            model = names.model(gpu, called.models)
            use = reading.utilization_percent if reading else None
            yield Row(
                key=f"{node.node}/{gpu.gpu}",
                cells=(
                    Cell(
                        text=_name(node, gpu, called),
                        value=f"{_node(node, called)}:{gpu.index or 0:04}",
                    ),
                    Cell(text=model, value=model),
                    Cell(
                        text=gpu.word,
                        value=gpu.word,
                        style=style(gpu),
                    ),
                    Cell(text="–" if seconds is None else duration(seconds), value=seconds),
                    Cell(text=percent(use), value=use),
                    Cell(text=gibibytes(used, total), value=used),
                    Cell(text=who, value=who),
                ),
                sought=" ".join(
                    [
                        gpu.gpu,
                        node.node,
                        names.host(node),
                        names.model(gpu),
                        *(names.user(one) for one in (gpu.state.holders if gpu.state else ())),
                    ]
                ),
            )


def _name(node: NodeView, gpu: GpuView, called: names.Called) -> str:
    return names.gpu(_node(node, called), gpu.index)


def _node(node: NodeView, called: names.Called) -> str:
    return names.node(node.node, names.host(node), called.nodes)


def _who(node: NodeView, gpu: GpuView, view: FleetView) -> str:
    text = explain(node, gpu, view.at)
    age = node.age_seconds(view.at)
    if node.presence(view.at) is Presence.STALE and age is not None:
        text = f"{text}, last heard {duration(age)} ago"
    return "; ".join(filter(None, ("simulated" if node.is_simulated else "", text)))


def _user_rows(view: FleetView, called: names.Called) -> Iterator[Row]:
    for one in users(view, called):
        yield Row(
            key=one.user,
            cells=(
                Cell(text=one.user, value=one.user),
                Cell(text=one.memory, value=one.memory_used_bytes),
                Cell(text=str(one.n_procs), value=one.n_procs),
                Cell(text=duration(one.longest_seconds), value=one.longest_seconds),
                Cell(text=one.gpus, value=one.gpus),
            ),
            sought="",
        )


def _run_rows(view: FleetView, called: names.Called) -> Iterator[Row]:
    for node in view.nodes.values():
        for run in node.runs.values():
            yield _run_row(view, node, run, called)


def _run_row(view: FleetView, node: NodeView, run: Run, called: names.Called) -> Row:
    is_current = run.state.is_final or node.presence(view.at) is Presence.ONLINE
    # How long it has run, or how long ago it ended; of a silent node nobody knows.
    since = run.at if run.state.is_final else run.started_at
    seconds = (node.node_time(view.at) - since).total_seconds() if since and is_current else None
    state = run.state.value if is_current else f"was {run.state.value}"
    why_not = run.reason if is_current else f"node is {node.presence(view.at).value}"
    is_simulated = run.simulated or node.is_simulated
    reason = f"simulated; {why_not}" if is_simulated else why_not
    indices = {gpu.gpu: gpu.index for gpu in node.gpus(view.at)}
    on = ",".join(str(indices[gpu]) if gpu in indices else "?" for gpu in run.gpus)
    place = f"{_node(node, called)}:{on}"
    return Row(
        key=f"{node.node}/{run.run}",
        cells=(
            Cell(text=run.entry, value=run.entry),
            Cell(text=run.run, value=run.run),
            Cell(text=state, value=state, style=_run_style(run, is_current=is_current)),
            Cell(text="–" if seconds is None else duration(seconds), value=seconds),
            Cell(text=place, value=place),
            Cell(text=reason, value=reason),
        ),
        sought=" ".join([*run.gpus, node.node, names.host(node)]),
    )


def _run_style(run: Run, *, is_current: bool) -> str:
    if not is_current:
        return "dim"
    return "" if run.state.is_final else COLOURS[GpuCondition.OURS]


def summary(view: FleetView, page: Page) -> list[str]:
    """Return the lines above the table: how many of what, and what is not as it should be."""
    nodes = view.nodes.values()
    gpus = [gpu for node in nodes for gpu in node.gpus(view.at) if gpu.is_usable]
    counts = Counter(gpu.condition for gpu in gpus)
    words = ", ".join(f"{counts[one]} {one.value}" for one in GpuCondition if counts[one])
    presences = [(node.node, node.presence(view.at)) for node in view.nodes.values()]
    online = sum(presence is Presence.ONLINE for _, presence in presences)
    lines = [
        f"{_number(gpus, 'GPU')}: {words}" if gpus else "no node has said anything yet",
        f"{online} of {_number(presences, 'node')} online",
    ]
    silent = [
        f"{name} {presence.value}"
        for name, presence in presences
        if presence is not Presence.ONLINE
    ]
    if silent:
        lines[-1] += f" ({', '.join(silent[:3])}{'…' if len(silent) > 3 else ''})"
    if any(node.is_simulated for node in view.nodes.values()):
        lines[-1] += "; simulated ones are marked"
    if not has_scheduler(view):
        lines.append("no scheduler is heard: nothing new starts")
    if page is Page.USERS:
        lines += not_counted(view)[:3]
    return lines


def _number(things: Sequence[object], what: str) -> str:
    return f"{len(things)} {what}{'s' if len(things) != 1 else ''}"


def details(view: FleetView, page: Page, key: str) -> tuple[str, list[str]] | None:
    """Return heading and lines about one line: a GPU's blockers, a run's story; None if gone."""
    name, _, rest = key.partition("/")
    node = view.nodes.get(name)
    if node is None:
        return None
    if page is Page.RUNS:
        run = node.runs.get(rest)
        return None if run is None else _about_run(node, run, view)
    gpu = next((one for one in node.gpus(view.at) if one.gpu == rest), None)
    if gpu is None:
        return None
    # The beginning of a UUID may stand for several.
    answer = next(one for one in why(view, rest) if one.what.endswith(f"({rest})"))
    blockers = [f"- {blocker.text}" for blocker in answer.blockers]
    model = (gpu.inventory and gpu.inventory.name) or "model not known"
    return answer.what, [model, answer.note, "", *(blockers or ["nothing stands in the way"])]


def _about_run(node: NodeView, run: Run, view: FleetView) -> tuple[str, list[str]]:
    row = _run_row(view, node, run, NOTHING_ELSE)
    titles = [column.title for column in COLUMNS[Page.RUNS]]
    lines = [f"{title}: {cell.text}" for title, cell in zip(titles, row.cells, strict=True)]
    if run.cause is not None:
        lines.append(f"Made to leave by: {run.cause.text}")
    if run.stages is not None and run.stages.noticed_to_clear is not None:
        lines.append(f"From noticing to a free GPU: {run.stages.noticed_to_clear:.2f} s")
    return f"{run.entry} on {node.node}", lines
