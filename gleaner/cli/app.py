"""The commands, their options and their help; what they do is imported when it is done."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gleaner import __version__

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gleaner.bus.messages import RequestKind
    from gleaner.cli.settings import Settings
    from gleaner.fleet import FleetView

EXIT_FAILED, EXIT_USAGE = 1, 2

app = typer.Typer(
    name="gleaner",
    help="Shows who uses every GPU, and puts the idle ones to work.",
    epilog="Start with `gleaner up`, then look: `gleaner status`, `gleaner why gpu1:0`, "
    "`gleaner events --follow`. To stop everything for now: `gleaner pause --for 2h`.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
imports = typer.Typer(help="Take over the configuration of another program.", no_args_is_help=True)
exports = typer.Typer(help="Write what is known for other programs.", no_args_is_help=True)
databases = typer.Typer(help="Look after the recorder's database.", no_args_is_help=True)
LOOK, ASK, RUN = "Look", "Change (who may read the operator's password)", "Start"
app.add_typer(imports, name="import", rich_help_panel=RUN)
app.add_typer(exports, name="export", rich_help_panel=LOOK)
app.add_typer(databases, name="database", rich_help_panel=RUN)
SERVICES = ("node", "collector", "runner", "scheduler", "recorder", "web")

Config = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration file; see docs/configuration.md for the rest."),
]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Csv = Annotated[bool, typer.Option("--csv", help="For spreadsheets.")]
DatabaseUrl = Annotated[
    str | None, typer.Argument(help="sqlite:///path, postgresql://…; the recorder's without it.")
]
Reason = Annotated[str, typer.Option("--reason", help="Shown to everybody who asks why.")]


class Failed(Exception):
    """What was asked for cannot be done; one line for each reason."""

    def __init__(self, *lines: str, code: int = EXIT_FAILED) -> None:
        super().__init__("\n".join(lines))
        self.code = code


@app.command(rich_help_panel=RUN, epilog="Example: `gleaner up --config gleaner.toml`")
def up(config: Config = None) -> None:
    """Start everything on this machine, and stop it with Ctrl-C.

    A broker, this node, scheduler, recorder and web page run as child processes; what dies is
    started again. On a machine without an NVIDIA GPU a simulated node is added.
    """
    from gleaner.cli.up import up as run_everything
    from gleaner.settings import find_file

    settings = _load(config)
    found = find_file(config)
    raise typer.Exit(_wait_for(run_everything(settings, found.absolute() if found else None)))


@app.command(
    rich_help_panel=LOOK,
    epilog="Examples: `gleaner status --watch`, `gleaner status --json | jq '.nodes[].gpus'`",
)
def status(
    config: Config = None,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Show every GPU: its state, who has it, and why nothing starts there."""
    _wait_for(_status(_load(config), as_json=as_json, watch=watch))


async def _status(settings: Settings, *, as_json: bool, watch: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    from gleaner.cli import status as view

    async with view.watched_fleet(settings) as fleet:
        if as_json:
            while True:
                print(json.dumps(view.as_json(view.now_of(fleet)), indent=None if watch else 2))
                if not watch:
                    return
                sys.stdout.flush()
                await asyncio.sleep(1)
        if not watch:
            Console().print(view.table(view.now_of(fleet)))
            return
        with Live(view.table(view.now_of(fleet)), screen=True, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(1)
                live.update(view.table(view.now_of(fleet)), refresh=True)


@app.command(
    rich_help_panel=LOOK,
    epilog="Examples: `gleaner why gpu1:0`, `gleaner why GPU-5fa1`, `gleaner why fold`",
)
def why(
    target: Annotated[
        str, typer.Argument(help="A GPU (NODE:INDEX or its UUID's beginning), node or workload.")
    ],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say why nothing (more) runs on a GPU, or why a workload does not."""
    _wait_for(_why(_load(config), target, as_json=as_json))


async def _why(settings: Settings, target: str, *, as_json: bool) -> None:
    from gleaner.cli import status as view
    from gleaner.cli import why as reasons

    async with view.watched_fleet(settings) as fleet:
        try:
            answers = reasons.why(view.now_of(fleet), target)
        except reasons.NotFound as error:
            raise Failed(str(error)) from error
    if as_json:
        print(json.dumps([answer.as_json() for answer in answers], indent=2))
        return
    for answer in answers:
        print(f"{answer.what}: {answer.note}")
        for blocker in answer.blockers:
            print(f"  - {blocker.text}")
        if not answer.blockers:
            print("  nothing stands against it")


@app.command(
    rich_help_panel=LOOK,
    epilog="Examples: `gleaner events --follow`, `gleaner events --node gpu1 --limit 50`",
)
def events(
    config: Config = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="As they happen.")] = False,
    node: Annotated[str | None, typer.Option("--node", help="Of one node only.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many of the last.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="For programs, one a line.")] = False,
) -> None:
    """Show what happened: GPUs, people and runs."""
    from gleaner.cli import events as record

    def say(row: record.Row) -> None:
        print(json.dumps(row, default=str) if as_json else record.describe(row), flush=True)

    settings = _load(config)
    if follow:
        _wait_for(record.follow(settings, node=node, say=say))
    for row in [] if follow else _wait_for(record.history(settings, node=node, limit=limit)):
        say(row)


@app.command(
    rich_help_panel=LOOK,
    epilog="Examples: `gleaner free --model h100 -n 4`, `gleaner free --memory 40G --json`",
)
def free(
    model: Annotated[str, typer.Option("--model", help="Part of the model's name.")] = "",
    memory: Annotated[
        str, typer.Option("--memory", help="Of each GPU at least: 40G (10^9 bytes), 24GiB.")
    ] = "0",
    count: Annotated[
        int, typer.Option("--number", "-n", min=1, help="How many, of one model on one node.")
    ] = 1,
    as_json: Json = False,
    as_csv: Csv = False,
    config: Config = None,
) -> None:
    """Show the GPUs you may take now, with the lines to copy; status 1 if nothing fits.

    Those marked "on demand" have one of our own runs, which leaves as soon as somebody comes.
    """
    from gleaner.cli import free as view

    try:
        wish = view.Wish(model=model, memory_bytes=view.parse_bytes(memory), count=count)
    except ValueError as error:
        raise Failed(f"--memory: {error}", code=EXIT_USAGE) from error
    fleet = _wait_for(_now(_load(config)))
    offers = view.free(fleet, wish)
    if as_json:
        print(json.dumps(view.as_json(fleet, offers), indent=2))
    elif as_csv:
        _print_csv(view.COLUMNS, view.rows(offers))
    elif offers:
        for line in view.lines(fleet, offers):
            _print(line)
    if not offers:
        raise Failed(view.nothing(fleet, wish))


@app.command(rich_help_panel=LOOK, epilog="Examples: `gleaner users`, `gleaner users --csv`")
def users(as_json: Json = False, as_csv: Csv = False, config: Config = None) -> None:
    """Show who uses GPUs now: memory, processes, GPUs and how long, over all hosts.

    A process on two GPUs counts twice. What is on a node that is silent is told, but not counted.
    """
    from gleaner.cli import users as view

    fleet = _wait_for(_now(_load(config)))
    if as_json:
        print(json.dumps(view.as_json(fleet), indent=2))
    elif as_csv:
        _print_csv(view.COLUMNS, view.rows(fleet))
    else:
        _print(view.table(fleet))


@app.command(rich_help_panel=LOOK, epilog="Example: `gleaner top`, then `/` and `h100 idle`")
def top(config: Config = None) -> None:
    """Watch the fleet in the terminal: GPUs, users and runs, to sort, to filter and to ask why."""
    if not sys.stdout.isatty():
        raise Failed("`gleaner top` needs a terminal; `gleaner status` writes anywhere")
    try:
        from gleaner.cli.top import top as watch
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("textual"):
            raise
        raise Failed("`gleaner top` needs textual: pip install 'gleaner[top]'") from error
    _wait_for(watch(_load(config)))


async def _now(settings: Settings) -> FleetView:
    from gleaner.cli import status as view

    async with view.watched_fleet(settings) as fleet:
        return view.now_of(fleet)


def _print(shown: RenderableType) -> None:
    from rich.console import Console
    from rich.text import Text

    # Text to copy is left to the terminal to wrap; tables fit themselves to its width.
    Console(highlight=False).print(shown, soft_wrap=isinstance(shown, Text))


def _print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    from gleaner.cli.comma import comma_separated

    print(comma_separated(columns, rows), end="")


What = Literal["sessions", "samples", "events", "runs"]
Format = Literal["csv", "json", "parquet"]
By = Literal["user", "node", "gpu", "hour", "day", "week", "month"]


@app.command(
    rich_help_panel=LOOK,
    epilog="Examples: `gleaner usage`, `gleaner usage --by month --since 365d --csv`",
)
def usage(
    config: Config = None,
    by: Annotated[By, typer.Option("--by", help="`hour` is the hour of the day.")] = "user",
    since: Annotated[str, typer.Option("--since", help="How far back: 12h, 30d, 52w.")] = "30d",
    node: Annotated[str | None, typer.Option("--node", help="Of one node only.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Of one person only.")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Say who used how many GPU-hours, or when and where they were used; times are UTC.

    Several users of one GPU count in full each, as `shared`.
    """
    from gleaner.cli import usage as figures

    seconds = _seconds("--since", since)
    rows = _wait_for(
        figures.usage(_load(config), by=by, since_seconds=seconds, node=node, user=user)
    )
    _show_figures(rows, figures.usage_table, as_json=as_json, as_csv=as_csv)


@app.command(
    rich_help_panel=LOOK,
    epilog="Examples: `gleaner history GPU-5fa1… --since 7d`, `gleaner history gpu1 --csv`",
)
def history(
    target: Annotated[str, typer.Argument(help="A GPU's UUID, or a node.")],
    config: Config = None,
    since: Annotated[str, typer.Option("--since", help="How far back: 12h, 30d, 52w.")] = "1d",
    points: Annotated[int, typer.Option("--points", min=1, help="About how many rows.")] = 24,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show how a GPU or node fared, at the resolution that fits; times are UTC."""
    from gleaner.cli import usage as figures

    seconds = _seconds("--since", since)
    rows = _wait_for(figures.history(_load(config), target, since_seconds=seconds, points=points))
    _show_figures(rows, figures.history_table, as_json=as_json, as_csv=as_csv)


def _seconds(option: str, text: str) -> float:
    from gleaner.cli.words import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise Failed(f"{option}: {error}", code=EXIT_USAGE) from error


def _show_figures(rows: list[Any], table: Any, *, as_json: bool, as_csv: bool) -> None:
    from rich.console import Console

    from gleaner.cli import usage as figures

    if as_json:
        print(figures.as_json(rows))
    elif as_csv:
        figures.write_csv(rows, sys.stdout)
    elif rows:
        Console().print(table(rows))
    else:
        print("nothing is recorded of that time")


NodeArgument = Annotated[str | None, typer.Argument(help="A node; all of them without it.")]


@app.command(
    rich_help_panel=ASK,
    epilog='Example: `gleaner pause gpu1 --for 2h --reason "course in room 5"`',
)
def pause(
    node: NodeArgument = None,
    workload: Annotated[str | None, typer.Argument(help="One workload of the node only.")] = None,
    reason: Reason = "",
    duration: Annotated[
        str | None, typer.Option("--for", help="30m, 2h, 1d 12h; without it until resumed.")
    ] = None,
    config: Config = None,
) -> None:
    """Stop what runs and start nothing, on a node or in the whole fleet."""
    from gleaner.bus.messages import RequestKind
    from gleaner.cli.words import parse_duration

    try:
        seconds = None if duration is None else parse_duration(duration)
    except ValueError as error:
        raise Failed(f"--for: {error}", code=EXIT_USAGE) from error
    _ask(config, RequestKind.PAUSE, node, workload, reason, seconds)


@app.command(rich_help_panel=ASK, epilog="Examples: `gleaner resume`, `gleaner resume gpu1 fold`")
def resume(
    node: NodeArgument = None,
    workload: Annotated[
        str | None, typer.Argument(help="One workload of the node; its crashes are forgotten.")
    ] = None,
    config: Config = None,
) -> None:
    """End a pause."""
    from gleaner.bus.messages import RequestKind

    _ask(config, RequestKind.RESUME, node, workload)


@app.command(rich_help_panel=ASK, epilog='Example: `gleaner drain gpu1 --reason "new driver"`')
def drain(
    node: Annotated[str, typer.Argument(help="A node.")], reason: Reason = "", config: Config = None
) -> None:
    """Start nothing new on a node; what runs goes on."""
    from gleaner.bus.messages import RequestKind

    _ask(config, RequestKind.DRAIN, node, reason=reason)


@app.command(rich_help_panel=ASK, epilog="Example: `gleaner undrain gpu1`")
def undrain(node: Annotated[str, typer.Argument(help="A node.")], config: Config = None) -> None:
    """End a drain."""
    from gleaner.bus.messages import RequestKind

    _ask(config, RequestKind.UNDRAIN, node)


def _ask(
    config: Path | None,
    kind: RequestKind,
    node: str | None,
    workload: str | None = None,
    reason: str = "",
    seconds: float | None = None,
) -> None:
    from gleaner.cli.connect import connected

    settings = _load(config)

    async def ask() -> None:
        async with connected(settings) as client:
            answer = await client.request(
                kind, node=node, entry=workload, reason=reason, duration_seconds=seconds
            )
        if not answer.ok:
            raise Failed(answer.text)
        print(answer.text)

    _wait_for(ask())


@app.command(rich_help_panel=LOOK, epilog="Example: `gleaner capture gpu1.capture --seconds 60`")
def capture(
    file: Annotated[Path, typer.Argument(help="Where to write it.")],
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="For how long.")] = 30,
    config: Config = None,
) -> None:
    """Record what the driver says, to replay it or to report a problem; names of users stay out."""
    from services.collector.capture import capture as record

    try:
        sweeps = _wait_for(record(file, seconds, _load(config).node.gpu))
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from error
    if not sweeps:
        raise Failed(f"{file}: the driver gave no answer; `gleaner doctor` may know why")
    print(f"{file}: {sweeps} sweeps in {seconds:g} s")


@app.command(rich_help_panel=LOOK, epilog="Example: `sudo gleaner doctor`")
def doctor(config: Config = None, as_json: Json = False) -> None:
    """Examine this machine without changing it: what works, what does not, what that costs."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gleaner.cli.doctor import examine
    from gleaner.settings import find_file

    findings = list(examine(_load(config), find_file(config)))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
        for finding in findings:
            remedy = f"\n→ {finding.remedy}" if finding.remedy else ""
            word = Text(finding.verdict, style=colours[finding.verdict])
            table.add_row(word, finding.name, Text(f"{finding.text}{remedy}"))
        Console().print(table)
    if any(finding.verdict == "fail" for finding in findings):
        raise typer.Exit(EXIT_FAILED)


@app.command(rich_help_panel=LOOK, epilog="Example: `gleaner health recorder`")
def health(
    service: Annotated[str, typer.Argument(help="One of: " + ", ".join(SERVICES) + ".")],
    config: Config = None,
) -> None:
    """Say whether a service of this machine lives and has the bus; for watchdogs."""
    from gleaner.cli.doctor import health as look

    if service not in SERVICES:
        there_are = ", ".join(SERVICES)
        raise Failed(f"there is no service {service}; there are {there_are}", code=EXIT_USAGE)
    is_well, text = look(_load(config).node.data_directory, service)
    if not is_well:
        raise Failed(text)
    print(text)


@imports.command(
    "gpu-mon", epilog="Example: `gleaner import gpu-mon ~/.config/gpu_mon.conf -o gleaner.toml`"
)
def import_gpu_mon(
    file: Annotated[Path, typer.Argument(help="gpu_mon.conf")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new file, instead of standard output.")
    ] = None,
) -> None:
    """Turn a configuration of gpu_mon into one of Gleaner, with a word on each difference."""
    from gleaner.cli.gpu_mon import ImportRefused, convert

    try:
        text = convert(file)
    except ImportRefused as error:
        raise Failed(*error.mistakes) from error
    if output is None:
        print(text, end="")
        return
    try:
        with output.open("x") as target:
            target.write(text)
    except OSError as error:
        raise Failed(f"{output}: {error.strerror}") from error


@exports.command("site", epilog="Example: `gleaner export site /var/www/html/gpus --every 5m`")
def export_site(
    directory: Annotated[Path, typer.Argument(help="Of any web server; made if it is missing.")],
    every: Annotated[
        str | None, typer.Option("--every", help="30s, 5m…: go on until Ctrl-C; once without it.")
    ] = None,
    config: Config = None,
) -> None:
    """Write `index.html`, which needs no script, and `load_data.csv` for a plain web server.

    Both are replaced as a whole. A host that is silent stays on the page as it was last known.
    """
    from gleaner.cli.words import parse_duration

    try:
        seconds = None if every is None else max(1.0, parse_duration(every))
    except ValueError as error:
        raise Failed(f"--every: {error}", code=EXIT_USAGE) from error
    try:
        from gleaner.cli import export_site as site
    except ModuleNotFoundError as error:
        if error.name != "jinja2":
            raise
        raise Failed("`gleaner export site` needs Jinja2: pip install 'gleaner[web]'") from error
    try:
        _wait_for(site.export(_load(config), directory, seconds, site.to_standard_error))
    except OSError as error:
        raise Failed(site.describe(error, directory)) from error


@exports.command(
    "data",
    epilog="Examples: `gleaner export data sessions sessions.csv --since 2026-01-01`, "
    "`gleaner export data events - --format json --node gpu1 | jq`",
)
def export_data(
    what: Annotated[What, typer.Argument(help="sessions: who had which GPU, and what it used.")],
    file: Annotated[
        str, typer.Argument(help="Written as a whole or not at all; - is standard output.")
    ],
    form: Annotated[
        Format | None, typer.Option("--format", help="By default as the name of the file ends.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="7d (ago), 2026-11-01, 2026-11-01T08:00 (UTC).")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="As `--since`.")] = None,
    node: Annotated[str | None, typer.Option("--node", help="Of one node only.")] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Of one person only; of sessions.")
    ] = None,
    config: Config = None,
) -> None:
    """Write everything that is recorded, newest first, however much that is.

    Units stand in the names of the columns. If the recorder restarts meanwhile, it is waited for;
    if it stays away, nothing is written and the status is 1. Parquet needs the extra `parquet`.
    """
    from datetime import UTC, datetime

    from gleaner.cli import export_data as data
    from gleaner.export import Incomplete, NoParquet

    now = datetime.now(UTC)
    times: dict[str, datetime | None] = {"since": None, "until": None}
    for name, text in (("since", since), ("until", until)):
        try:
            times[name] = None if text is None else data.parse_instant(text, now)
        except ValueError as error:
            raise Failed(f"--{name}: {error}", code=EXIT_USAGE) from error
    wish = data.Wish(what=what, form=data.format_of(file, form), node=node, user=user, **times)
    try:
        rows = _wait_for(data.export(_load(config), file, wish))
    except NoParquet as error:
        raise Failed(str(error)) from error
    except Incomplete as error:
        left = "what came out is not all" if file == "-" else f"{file} was not written"
        raise Failed(f"{error}; {left}") from error
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise Failed(f"{error.filename or file}: {error.strerror}") from error
    if file != "-":
        print(f"{file}: {rows} {what}")


@databases.command("check", epilog="Example: `gleaner database check --json`")
def database_check(url: DatabaseUrl = None, as_json: Json = False, config: Config = None) -> None:
    """Say whether a database is whole, and what is in it; also beside a recorder.

    Reads all of it. Status 1 if this version of Gleaner cannot use it.
    """
    view = _database()
    found = _wait_for(view.check(_load(config), url))
    if as_json:
        print(json.dumps(view.as_json(found), indent=2))
    else:
        _print(view.findings(found))
        if found.tables:
            _print(view.sizes(found.tables))
    if not found.is_well:
        raise typer.Exit(EXIT_FAILED)


@databases.command("migrate", epilog="Example: `gleaner database migrate`, the recorder stopped")
def database_migrate(url: DatabaseUrl = None, config: Config = None) -> None:
    """Bring a database up to date, ahead of the recorder, which does so when it starts.

    A file of an earlier version is also written anew, so that it can shrink from then on.
    """
    view = _database()
    print(_wait_for(view.migrate(_load(config), url)))


@databases.command(
    "copy",
    epilog="Example: `gleaner database copy sqlite:////var/lib/gleaner/recorder/gleaner.sqlite "
    "postgresql://gleaner@db1/gleaner`",
)
def database_copy(
    source: Annotated[str, typer.Argument(help="sqlite:///path or postgresql://user@host/name")],
    target: Annotated[str, typer.Argument(help="Another one, which is empty.")],
    config: Config = None,
) -> None:
    """Copy everything from one database into another, all or nothing, and count it there.

    The recorder has to be stopped: what it would write meanwhile would be missing.
    """
    print(_wait_for(_database().copy(_load(config), source, target)))


def _database() -> ModuleType:
    try:
        from gleaner.cli import database
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("sqlalchemy", "alembic"):
            raise
        raise Failed(
            "`gleaner database` needs SQLAlchemy and alembic: pip install 'gleaner[recorder]'"
        ) from error
    return database


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"gleaner {__version__}")
        raise typer.Exit


@app.callback()
def gleaner(
    wanted: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_say_version, help="Say the version."),
    ] = False,
) -> None:
    """Show who uses every GPU, and put the idle ones to work."""


@app.command(rich_help_panel=LOOK)
def version() -> None:
    """Say which version this is."""
    _say_version(wanted=True)


def _service(name: str, text: str) -> None:
    """Put a service into the list of commands; the program replaces itself before it gets here."""

    def show(config: Config = None) -> None:  # noqa: ARG001
        raise Failed(f"`gleaner {name}` takes its options after its name", code=EXIT_USAGE)

    show.__doc__ = text
    app.command(name, rich_help_panel=RUN)(show)


_service("node", "Run this machine's collector and runner in one process.")
_service("collector", "Run the collector alone.")
_service("runner", "Run the runner alone.")
_service("scheduler", "Run the scheduler.")
_service("recorder", "Run the recorder.")
_service("web", "Run the web page.")


def _load(config: Path | None) -> Settings:
    from gleaner.cli.settings import Settings
    from gleaner.settings import SettingsError, load

    try:
        return load(Settings, config)
    except SettingsError as error:
        raise Failed(*error.mistakes, code=EXIT_USAGE) from error


def _wait_for(doing: Coroutine[Any, Any, Any]) -> Any:
    from gleaner.client import RequestFailed
    from gleaner.runtime import Fatal

    logging.basicConfig(level=logging.WARNING, format="gleaner: %(message)s", stream=sys.stderr)
    try:
        return asyncio.run(doing)
    except RequestFailed as error:
        # A refusal is mostly for want of an account.
        hint = "; see [bus] user and password_file" if "Not authorized" in str(error) else ""
        raise Failed(f"{error}{hint}") from error
    except Fatal as error:
        raise Failed(str(error)) from error


def run() -> None:
    """Run a command; end with 0, 1 (failed) or 2 (usage or configuration)."""
    try:
        app()
    except Failed as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # `gleaner events | head`: nobody reads any more; keep the interpreter from saying so.
        sys.stderr.close()
        sys.exit(EXIT_FAILED)
