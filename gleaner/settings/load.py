"""Find the file, read it, let the environment override it, and name every mistake at once."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

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

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )
    file: ClassVar[dict[str, Any]] = {}
    path: ClassVar[Path | None] = None
    """The file they were read from; the runner does not trust one that others may write."""

    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, cls.file)


def find_file(explicit: Path | None = None) -> Path | None:
    """Return the configuration file to use, or None; an explicit one must exist."""
    named = explicit or (
        Path(os.environ[PREFIX + "CONFIG"]) if PREFIX + "CONFIG" in os.environ else None
    )
    if named is not None:
        if not named.is_file():
            raise SettingsError([f"{named}: there is no such file"])
        return named
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = (
        Path("gleaner.toml"),
        home / "gleaner" / "gleaner.toml",
        Path("/etc/gleaner/gleaner.toml"),
    )
    return next((place for place in places if place.is_file()), None)


def load(settings_type: type[S], path: Path | None = None) -> S:
    """Return the settings of a service; raise SettingsError with every mistake found."""
    found = find_file(path)
    contents = _read(found) if found else {}
    mistakes = [*_unknown_sections(contents, found), *_unknown_variables()]
    wanted = {name: value for name, value in contents.items() if name in settings_type.model_fields}
    # A class of its own per call: pydantic-settings wants its sources on the class.
    sources = {"file": wanted, "path": found, "__module__": __name__}
    bound = type(settings_type.__name__, (settings_type,), sources)
    try:
        settings: S = bound()
    except ValidationError as error:
        mistakes += [_describe(details, found) for details in error.errors()]
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


def _describe(details: ErrorDetails, path: Path | None) -> str:
    """Return one mistake as `file: key: what` or `VARIABLE: what`."""
    keys = [str(part) for part in details["loc"]]
    key = ".".join(keys)
    variable = PREFIX + "__".join(keys).upper()
    place = variable if variable in os.environ else f"{path or 'settings'}: {key}"
    if details["type"] == "extra_forbidden":
        return f"{place}: there is no such key"
    if details["type"] == "missing":
        return f"{place}: is missing"
    what = details["msg"].removeprefix("Value error, ")
    shown = (
        ""
        if isinstance(details["input"], dict | list | tuple)
        else f" (it is {details['input']!r})"
    )
    return f"{place}: {what}{shown}" if key else f"{path}: {what}"


def _suggest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""
