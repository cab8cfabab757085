"""docs/command-line.md: what `--help` says, in one page."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from gleaner.cli.app import app
from gleaner.cli.documents.words import GENERATED


def command_line_document() -> str:
    """Return docs/command-line.md."""
    return "\n".join(_command_line_lines()) + "\n"


def _command_line_lines() -> Iterator[str]:
    yield "# Command line"
    yield ""
    yield GENERATED
    yield ""
    yield (
        "`gleaner COMMAND --help` shows the same. Status 0: done; 1: failed, with one line that "
        "says why; 2: usage or configuration. `gleaner --install-completion` completes commands "
        "and options in your shell. Asking (pause, drain, history) needs the account of "
        "`[bus]` or the right to read the operator's password of a running `gleaner up`."
    )
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for path, command in _commands(group, "gleaner"):
        yield ""
        yield f"## `{path}`"
        yield ""
        yield inspect.cleandoc(command.help or "")
        yield ""
        if command.epilog:
            yield command.epilog
            yield ""
        for parameter in command.params:
            yield f"- {_parameter(parameter)}"


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = parameter.name.upper()
        shown = f"`{name}`" if parameter.required else f"`[{name}]`"
    else:
        shown = ", ".join(f"`{option}`" for option in parameter.opts)
    return f"{shown}: {parameter.help or ''}".rstrip(": ")
