"""docs/configuration.md: every section and key, with default, limits and reason."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gleaner.cli.documents.words import GENERATED, cell, type_words, types_in
from gleaner.settings.sections import AllSettings


def configuration_document() -> str:
    """Return docs/configuration.md."""
    return "\n".join(_configuration_lines()) + "\n"


def _configuration_lines() -> Iterator[str]:
    yield "# Configuration"
    yield ""
    yield GENERATED
    yield ""
    yield (
        "One TOML file: `--config FILE`, else `$GLEANER_CONFIG`, else `./gleaner.toml` "
        "(which must be yours or root's), "
        "`~/.config/gleaner/gleaner.toml` or `/etc/gleaner/gleaner.toml`, whichever is there "
        "first. `GLEANER_<SECTION>__<KEY>` in the environment overrides a key "
        '(`GLEANER_NODE__GPU__SOURCE=simulated`; lists as JSON: `\'["a", "b"]\'`). All mistakes '
        "are told together, by key, and end a program with status 2. Everything has a default; "
        "`gleaner doctor` says what holds."
    )
    yield ""
    yield (
        "A node runs entries of its own file only. Let nobody but its owner write it: the runner "
        "refuses a file that others may change."
    )
    for name, field in AllSettings.model_fields.items():
        models = types_in(field.annotation, BaseModel)
        is_list = get_origin(field.annotation) is tuple
        for model in models:
            yield from _section_lines(name, model, is_list=is_list)


def _section_lines(name: str, model: type[BaseModel], *, is_list: bool) -> Iterator[str]:
    yield ""
    yield f"## `[[{name}]]`" if is_list else f"## `[{name}]`"
    yield ""
    yield inspect.getdoc(model) or ""
    yield ""
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    below = []
    for key, field in model.model_fields.items():
        inner = types_in(field.annotation, BaseModel)
        if field.annotation in inner:
            below.append((f"{name}.{key}", inner[0]))
            continue
        yield (
            f"| `{key}` | {cell(type_words(field.annotation))}{_limits(field)} "
            f"| {_default(field)} | {cell(field.description or '')} |"
        )
    for path, inner_model in below:
        yield from _section_lines(path, inner_model, is_list=False)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None or field.default is PydanticUndefined:
        return "–"
    value = field.default
    if value is None:
        return "none"
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, dict) and not value:
        return "`{}`"
    return f"`{json.dumps(value)}`"


def _limits(field: FieldInfo) -> str:
    bounds = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    said = []
    for part in [*field.metadata, *_metadata_in(field.annotation)]:
        for attribute, sign in bounds.items():
            value = getattr(part, attribute, None)
            if isinstance(value, int | float):
                said.append(f"{sign} {value:,}".replace(",", "\u202f"))
    return f" ({', '.join(said)})" if said else ""


def _metadata_in(annotation: Any) -> list[Any]:
    found: list[Any] = []
    for argument in get_args(annotation):
        for part in getattr(argument, "__metadata__", ()):
            found += getattr(part, "metadata", [part])
    return found
