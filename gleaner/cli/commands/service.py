"""Commands that make Gleaner a service of this machine, and take it away again."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gleaner.cli.commands.common import EXIT_USAGE, START, Config, Failed, group, load

if TYPE_CHECKING:
    from gleaner.cli.settings import Settings
    from gleaner.cli.systemd.install import Installed
    from gleaner.cli.systemd.systemctl import Systemd
    from gleaner.cli.systemd.units import Unit

Service = StrEnum("Service", ["node", "collector", "runner", "scheduler", "recorder", "web"])
_ENROLMENT = "GLEANER_BUS__ENROLMENT"
_OF_HOSTS = {"node", "collector", "runner"}

commands = group()


@commands.command(
    rich_help_panel=START,
    epilog="Examples: `sudo gleaner install` (this whole machine), "
    "`sudo GLEANER_ENROLMENT=gleaner1.… gleaner install node` (a host of a fleet), "
    "`gleaner install --print`",
)
def install(
    services: Annotated[
        list[Service] | None,
        typer.Argument(
            metavar="SERVICE",
            help="One or more of: node, collector, runner, scheduler, recorder, web; without a "
            "name the whole machine, by `gleaner up`.",
        ),
    ] = None,
    enrolment: Annotated[
        str | None,
        typer.Option(
            "--enrolment",
            envvar="GLEANER_ENROLMENT",
            help="What `gleaner enroll` printed for this host; it is kept in the data directory, "
            "for root only. A variable is seen by fewer people than an option.",
        ),
    ] = None,
    shows: Annotated[
        bool, typer.Option("--print", help="Show the units of systemd; change nothing.")
    ] = False,
    config: Config = None,
) -> None:
    """Have systemd run Gleaner from now on, and start it whenever it ends.

    For root they are services of the machine, else of the user. Once more does no harm: what has
    changed since, like the version, is restarted. Waits until each service is well; status 1 if
    it is not, 2 if its configuration is wrong.
    """
    from gleaner.cli.systemd import install as work
    from gleaner.cli.systemd.systemctl import Refused, Systemd
    from gleaner.cli.systemd.units import UP, text_of
    from gleaner.settings import find_file

    wanted = tuple(dict.fromkeys(map(str, services or (UP,))))
    settings = _settings(config, enrolment or os.environ.get(_ENROLMENT) or None, wanted)
    found = find_file(config)
    systemd = Systemd(is_user=os.geteuid() != 0)
    units = [
        work.unit(one, settings, found.absolute() if found else None, is_user=systemd.is_user)
        for one in wanted
    ]
    if shows:
        print("\n".join(f"# {systemd.directory / one.file}\n{text_of(one)}" for one in units))
        return
    _check(systemd)
    try:
        _check_neighbours(wanted, systemd)
        is_new = _enroll(config, settings)
        done = [
            _say(one, unit, systemd)
            for one, unit in zip(work.install(units, systemd, anew=is_new), units, strict=True)
        ]
    except Refused as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from error
    for problem in sorted({text for one in units for text in work.distrusted(one)}):
        print(f"warning: {problem}, as root", file=sys.stderr)
    if not systemd.lingers():
        print("it runs while you are logged in; for longer: loginctl enable-linger")
    failed = [one for one in done if one.problem]
    if failed:
        raise typer.Exit(max(2 if one.is_misconfigured else 1 for one in failed))


@commands.command(
    rich_help_panel=START, epilog="Examples: `sudo gleaner uninstall`, `gleaner uninstall node`"
)
def uninstall(
    services: Annotated[
        list[Service] | None,
        typer.Argument(metavar="SERVICE", help="Which; without a name all of them."),
    ] = None,
) -> None:
    """Stop what `gleaner install` installed, and remove it; data and configuration are kept."""
    from gleaner.cli.systemd.install import installed
    from gleaner.cli.systemd.systemctl import Refused, Systemd
    from gleaner.cli.systemd.uninstall import uninstall as remove
    from gleaner.cli.systemd.units import file_of

    systemd = Systemd(is_user=os.geteuid() != 0)
    _check(systemd)
    try:
        there = installed(systemd)
        if not services and not there:
            print("nothing is installed")
        for service in dict.fromkeys(map(str, services or there)):
            if service not in there:
                print(f"{file_of(service)} is not installed")
                continue
            said = there[service]
            remove(service, said.data, systemd)
            kept = f"data in {said.data}" + (f", configuration {said.config}" * bool(said.config))
            print(f"{file_of(service)} is stopped and removed; kept: {kept}")
    except Refused as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from error


def _settings(config: Path | None, enrolment: str | None, wanted: tuple[str, ...]) -> Settings:
    """Read what the services will read: no variables of this shell but the enrolment."""
    from gleaner.cli.connect import enrolled_node
    from gleaner.cli.systemd.units import UP

    unseen = [name for name in sorted(os.environ) if name.startswith("GLEANER_") and "__" in name]
    if unseen := [name for name in unseen if name != _ENROLMENT]:
        raise Failed(
            *(f"{name}: a service does not see it; write it into gleaner.toml" for name in unseen),
            code=EXIT_USAGE,
        )
    if enrolment and not _OF_HOSTS.issuperset(wanted):
        raise Failed("an enrolment is for `gleaner install node`", code=EXIT_USAGE)
    if enrolment:
        os.environ[_ENROLMENT] = enrolment
    settings = load(config)
    node = enrolled_node(settings)
    if node and UP in wanted:
        raise Failed(
            f"this host is enrolled as the node {node} of a server elsewhere: "
            "`gleaner install node` is what it needs",
            code=EXIT_USAGE,
        )
    if enrolment and not node:
        raise Failed("this text of `gleaner enroll` is not for a host", code=EXIT_USAGE)
    return settings


def _enroll(config: Path | None, settings: Settings) -> bool:
    """Keep the enrolment for the services; return whether it is a new one."""
    from gleaner.cli.connect import enrolled_node
    from gleaner.runtime import write_enrolment

    text = os.environ.pop(_ENROLMENT, None)
    if not text:
        return False
    is_new = write_enrolment(text, settings.node.data_directory)
    if not enrolled_node(load(config)):
        raise Failed(
            "the configuration says bus.url, bus.user or bus.enrolment_file, which count more than "
            "the enrolment: leave them out",
            code=EXIT_USAGE,
        )
    return is_new


def _check(systemd: Systemd) -> None:
    problem = systemd.why_not()
    if problem is not None:
        raise Failed(problem)


def _check_neighbours(wanted: tuple[str, ...], systemd: Systemd) -> None:
    from gleaner.cli.systemd.install import installed
    from gleaner.cli.systemd.units import conflicts

    there = tuple(installed(systemd))
    found = conflicts(wanted, there)
    if found:
        hint = ("`gleaner uninstall` removes what is installed now",) if there else ()
        raise Failed(*found, *hint)


def _say(done: Installed, unit: Unit, systemd: Systemd) -> Installed:
    """Say in one line what was done, and where the log is."""
    from gleaner.cli.systemd.units import name_of

    name = name_of(unit.service)
    log = f"log: {systemd.log(name)}"
    if done.problem is None:
        what = "is installed and started" if done.is_new else "was installed already"
        print(f"{unit.file} {what}, and is well; {log}")
    else:
        print(f"{unit.file} is installed, but {done.problem}; {log}", file=sys.stderr)
        for line in done.said:
            print(f"  {line}", file=sys.stderr)
    return done
