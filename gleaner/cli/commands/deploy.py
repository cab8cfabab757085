"""Commands for the server side in containers: make it ready, and let hosts in."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gleaner.cli.commands.common import DEPLOY, EXIT_USAGE, Failed, Json, group, screen

if TYPE_CHECKING:
    from gleaner.cli.deployment.enroll import Done
    from gleaner.cli.deployment.register import Entry, Kind

commands = group()

Volumes = Annotated[
    Path,
    typer.Option(
        "--directory", help="The folder of the containers' volumes, each named after its service."
    ),
]
BY_WHICH_NAME = "By which name hosts reach this server; with `:port` where that is another."


@commands.command(
    rich_help_panel=DEPLOY,
    epilog="Example: `gleaner prepare --directory /srv/gleaner --server gpus.example.org --tls`",
)
def prepare(
    directory: Volumes = Path("/gleaner"),
    tls: Annotated[
        bool, typer.Option("--tls/--no-tls", envvar="GLEANER_TLS", help="Encrypt the bus.")
    ] = False,
    server: Annotated[
        str | None, typer.Option("--server", envvar="GLEANER_SERVER", help=BY_WHICH_NAME)
    ] = None,
    broker: Annotated[
        str, typer.Option("--broker", help="By which name the services reach the broker.")
    ] = "broker",
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=1,
            max=65534,
            help="Where services and nodes connect; people do at the next one. "
            "Default: 1883, with TLS 8883.",
        ),
    ] = None,
    certificates: Annotated[
        Path | None,
        typer.Option(
            "--certificates",
            help="A folder with `server.pem` and `server.key` of your own, and `ca.pem` where "
            "systems do not know their authority. Default: `certificates` among the volumes.",
        ),
    ] = None,
) -> None:
    """Make keys, accounts and the broker's files for a server side in containers.

    Once more does no harm: what is there is kept.
    """
    from gleaner.cli.deployment.prepare import Wanted, host_of
    from gleaner.cli.deployment.prepare import prepare as make

    wanted = Wanted(
        server=server or None,
        broker=broker,
        port=port,
        tls=tls,
        certificates=certificates or directory / "certificates",
    )
    with _told():
        if server:
            host_of(server)
        made = list(make(directory, wanted))
    for line in made or ["everything is there"]:
        print(line)


@commands.command(
    rich_help_panel=DEPLOY,
    epilog="Examples: `gleaner enroll gpu7`, `gleaner enroll gpu7 --renew`, "
    "`gleaner enroll --list`, `gleaner enroll --reader grafana`",
)
def enroll(
    node: Annotated[
        str | None, typer.Argument(help="What the host is called from now on (its node.id).")
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(
            "--reader", help="Instead of a host, an integration, which may read everything."
        ),
    ] = None,
    renew: Annotated[
        bool,
        typer.Option("--renew", help="Give it a new password; the old one stops working at once."),
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Let it in no longer.")] = False,
    shows_list: Annotated[bool, typer.Option("--list", help="Show who is enrolled.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Write what a node is to be started with to this file, instead of showing a "
            "command; one that is there is kept.",
        ),
    ] = None,
    server: Annotated[
        str | None, typer.Option("--server", help=f"{BY_WHICH_NAME} Default: as prepared.")
    ] = None,
    directory: Volumes = Path("/gleaner"),
    as_json: Json = False,
) -> None:
    """Let a GPU host join, and print the one command to run there; it is shown once.

    What the server keeps is a hash. A host that is removed, or got a new password, is thrown off.
    """
    from gleaner.cli.deployment import enroll as work

    kind: Kind = "reader" if reader else "node"
    name = _name(node, reader, shows_list=shows_list)
    if sum((renew, remove, shows_list, output is not None)) > 1 or (output and not node):
        raise Failed("--renew, --remove, --list and --output go alone", code=EXIT_USAGE)
    with _told():
        if shows_list:
            return _print_list(work.enrolled(directory), as_json=as_json)
        if remove:
            gone = work.remove(directory, kind, name)
            print(f"{name} is let in no longer")
            if not gone.is_forgotten:
                _aside("what it said is still shown; enroll and remove it while the broker runs")
            return _say_known(gone.is_known)
        if output is not None:
            is_new = work.enroll_to_file(directory, name, output, server or None)
            return print(f"{name} is enrolled{'' if is_new else ' already'}, by {output}")
        done = work.enroll(directory, kind, name, "renew" if renew else "new", server or None)
        return _print_enrolment(done, as_json=as_json)


def _name(node: str | None, reader: str | None, *, shows_list: bool) -> str:
    from gleaner.cli.deployment.enroll import NAME, NAME_RULE
    from gleaner.cli.machine.broker import OPERATOR

    named = [name for name in (node, reader) if name is not None]
    if len(named) != (0 if shows_list else 1):
        raise Failed("name one node, or one --reader, or ask for the --list", code=EXIT_USAGE)
    if named and not NAME.fullmatch(named[0]):
        raise Failed(f"{named[0]!r} cannot be its name: {NAME_RULE}", code=EXIT_USAGE)
    if reader == OPERATOR:
        raise Failed(f"{OPERATOR} is the account of this command line", code=EXIT_USAGE)
    return named[0] if named else ""


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say what cannot be done in one line."""
    from gleaner.cli.deployment.enroll import Refused
    from gleaner.cli.deployment.volume import Unusable

    try:
        yield
    except (Unusable, Refused) as error:
        raise Failed(str(error)) from error
    except ValueError as error:
        raise Failed(f"--server: {error}", code=EXIT_USAGE) from error


def _print_enrolment(done: Done, *, as_json: bool) -> None:
    from gleaner.settings.enrolment import encode

    text, said = encode(done.enrolment), done.enrolment
    if as_json:
        print(json.dumps(said.model_dump(mode="json") | {"enrolment": text}, indent=2))
    elif said.node:
        _aside(f"{said.node} is enrolled. Run this there, in a folder with docker-compose.yml;")
        _aside("it is shown once, and whoever has it can speak for this host:")
        print(f"GLEANER_ENROLMENT={text} docker compose up -d node")
        _aside("Without containers: GLEANER_ENROLMENT=… gleaner install node")
    else:
        _aside("It may read everything and write nothing; the password is shown once:")
        print(f"url {said.url}\nuser {said.user}\npassword {said.password}")
        print(said.ca or "", end="")
    _say_known(done.is_known)


def _say_known(is_known: bool) -> None:
    if not is_known:
        _aside("the broker does not run; it will know when it is started")


def _aside(text: str) -> None:
    """Say something to people, not to who takes the output."""
    print(text, file=sys.stderr)


def _print_list(entries: list[Entry], *, as_json: bool) -> None:
    if as_json:
        shown = [entry.model_dump(mode="json", exclude={"key"}) for entry in entries]
        return print(json.dumps(shown, indent=2))
    from rich.table import Table

    table = Table("name", "what", "enrolled since (UTC)", box=None, pad_edge=False)
    for entry in entries:
        table.add_row(entry.name, entry.kind, f"{entry.since:%Y-%m-%d %H:%M}")
    return screen().print(table)
