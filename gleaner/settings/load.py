"""Find the file, read it, let the environment override it, and name every mistake at once."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from gleaner.settings.enrolled import Given, find_enrolment
from gleaner.settings.enrolment import Part
from gleaner.settings.sections import AllSettings, LogSettings

PREFIX = "GLEANER_"
SECTIONS = tuple(AllSettings.model_fields)

S = TypeVar("S", bound="ServiceSettings")


class SettingsError(Exception):
    """One or more mistakes in the configuration; one line each in `mistakes`."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class ServiceSettings(BaseSettings):
    """The sections a service reads; a subclass has one field per section."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")
    file: ClassVar[dict[str, Any]] = {}
    environment: ClassVar[dict[str, Any]] = {}
    enrolment: ClassVar[dict[str, Any]] = {}
    """What a text of `gleaner enroll` says; it holds where nothing else is said."""
    part: ClassVar[Part] = ""
    """Which part of a node reads them; each has an account of its own."""
    path: ClassVar[Path | None] = None
    """The file they were read from; the runner does not trust one that others may write."""

    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - it reads lists as JSON only
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, and both over an enrolment."""
        said = (cls.environment, cls.file, cls.enrolment)
        return init_settings, *(InitSettingsSource(settings_cls, one) for one in said)


def find_file(explicit: Path | None = None) -> Path | None:
    """Return the configuration file to use, or None; an explicit one must exist.

    One that just lies where we were started must be ours or root's: in a folder that others write
    to, theirs would say where we write and which password file we send to which broker.
    """
    named = explicit or (
        Path(os.environ[PREFIX + "CONFIG"]) if PREFIX + "CONFIG" in os.environ else None
    )
    if named is not None:
        if not named.is_file():
            why = "it is no file" if named.exists() else "there is no such file"
            raise SettingsError([f"{named}: {why}"])
        return named
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = (
        Path("gleaner.toml"),
        home / "gleaner" / "gleaner.toml",
        Path("/etc/gleaner/gleaner.toml"),
    )
    found = next((place for place in places if place.is_file()), None)
    if found == places[0] and found.stat().st_uid not in (0, os.geteuid()):
        raise SettingsError(
            [f"{found.absolute()} belongs to another user; if you trust it: --config {found}"]
        )
    return found


def load(settings_type: type[S], path: Path | None = None) -> S:
    """Return the settings of a service; raise SettingsError with every mistake found."""
    found = find_file(path)
    contents = _read(found) if found else {}
    mistakes = [*_unknown_sections(contents, found), *_unknown_variables()]
    environment = _environment()
    enrolment = find_enrolment(
        (Given(environment, _variable), Given(contents, lambda keys: _in_file(found, keys))),
        settings_type.part,
    )
    mistakes += enrolment.mistakes
    fields = settings_type.model_fields
    said = {"file": contents, "environment": environment, "enrolment": enrolment.values}
    wanted = {
        source: {name: value for name, value in values.items() if name in fields}
        for source, values in said.items()
    }
    # A class of its own per call: pydantic-settings wants its sources on the class.
    sources = wanted | {"path": found, "__module__": __name__}
    bound = type(settings_type.__name__, (settings_type,), sources)
    try:
        settings: S = bound()
    except ValidationError as error:
        mistakes += _describe_all(error, settings_type, found, contents)
    if mistakes:
        raise SettingsError(mistakes)
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError([f"{path}: {error}"]) from error


def _unknown_sections(contents: dict[str, Any], path: Path | None) -> Iterator[str]:
    for name in contents:
        if name not in SECTIONS:
            yield f"{path}: {name}: there is no such section{_suggest(name, SECTIONS)}"


def _unknown_variables() -> Iterator[str]:
    for variable in sorted(os.environ):
        name = variable.removeprefix(PREFIX).lower()
        section = name.partition("__")[0]
        if variable.startswith(PREFIX) and "__" in name and section not in SECTIONS:
            yield f"{variable}: there is no section {section}{_suggest(section, SECTIONS)}"


def _environment() -> dict[str, Any]:
    """Return what `GLEANER_<SECTION>__<KEY>` say, as the file would: nested, by lower-case names.

    Values stay text, which the models take for numbers, lists (`a, b`) and the rest; a list or
    table may also be written as JSON.
    """
    found: dict[str, Any] = {}
    for variable, text in os.environ.items():
        *tables, key = variable.removeprefix(PREFIX).lower().split("__")
        if not variable.startswith(PREFIX) or not tables:
            continue
        table = found
        for name in tables:
            inner = table.setdefault(name, {})
            table = inner if isinstance(inner, dict) else {}
        table[key] = _json_or_text(text)
    return found


def _json_or_text(text: str) -> Any:
    if text.startswith(("[", "{")):
        with contextlib.suppress(ValueError):
            return json.loads(text)
    return text


def _describe_all(
    error: ValidationError,
    settings_type: type[BaseModel],
    path: Path | None,
    contents: dict[str, Any],
) -> list[str]:
    """Return each mistake once, as `file: key: what` or `VARIABLE: what`."""
    by_place: dict[str, list[str]] = {}
    shown: dict[str, str] = {}
    for details in error.errors():
        keys, model = _key_of(details, settings_type)
        place = _variable(keys) or _in_file(path, _named(keys, contents))
        by_place.setdefault(place.removesuffix(": "), []).append(_what(details, keys, model))
        has_value = details["type"] not in ("extra_forbidden", "missing")
        is_short = not isinstance(details["input"], dict | list | tuple | BaseModel)
        is_secret = any(word in place.lower() for word in ("password", "enrolment"))
        if has_value and is_short and not is_secret:
            shown[place] = f" (it is {details['input']!r})"
    return [f"{place}: {_either(what)}{shown.get(place, '')}" for place, what in by_place.items()]


def _variable(keys: list[str]) -> str | None:
    """Return the variable that says a key, or one below it, if there is one."""
    name = PREFIX + "__".join(keys).upper()
    if name in os.environ:
        return name
    return next((one for one in sorted(os.environ) if one.startswith(f"{name}__")), None)


def _in_file(path: Path | None, keys: list[str]) -> str:
    return f"{path or 'settings'}: {'.'.join(keys)}"


def _named(keys: list[str], contents: dict[str, Any]) -> list[str]:
    """Return a key with the name of its workload, if no other has it, instead of a number."""
    if keys[0] != "workload" or len(keys) < 2:
        return keys
    names = [
        entry.get("name") if isinstance(entry, dict) else None for entry in contents["workload"]
    ]
    name = names[int(keys[1])]
    is_telling = isinstance(name, str) and name and names.count(name) == 1
    return ["workload", str(name), *keys[2:]] if is_telling else keys


def _either(reasons: list[str]) -> str:
    """Join what each branch of a union expected into one sentence."""
    first, *others = reasons
    return " or ".join([first, *(one.removeprefix("must be ") for one in others)])


def _key_of(
    details: ErrorDetails, model: type[BaseModel]
) -> tuple[list[str], type[BaseModel] | None]:
    """Return the key a mistake is about, without the branches of a union, and who has that key."""
    keys: list[str] = []
    inside: type[BaseModel] | None = model
    for part in details["loc"]:
        if inside is None:
            break
        keys.append(str(part))
        if isinstance(part, int):
            continue
        model = inside
        inside = (
            _model_in(model.model_fields[part].annotation) if part in model.model_fields else None
        )
    return keys, model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model a field holds, or holds a list of."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _what(details: ErrorDetails, keys: list[str], model: type[BaseModel] | None) -> str:
    match details["type"]:
        case "extra_forbidden":
            known = tuple(model.model_fields) if model else ()
            return f"there is no such key{_suggest(keys[-1], known)}"
        case "missing":
            return "is missing"
        case "model_type":
            return f"is a section: write [{'.'.join(keys)}] above its keys"
        case _:
            what = details["msg"].removeprefix("Value error, ")
            what = what.replace("Input should", "must").replace("String should", "must")
            return what.replace("valid tuple", "list")


def _suggest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""
