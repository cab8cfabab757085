"""Find the enrolment of this machine among the settings, and say what stands against it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gleaner.settings.enrolment import Enrolment, Part, decode, settings_of
from gleaner.settings.node import default_data_directory

KEPT = Path("account", "enrolment")
"""Below the data directory: what a host was given once, and what `gleaner prepare` made."""


@dataclass(frozen=True)
class Given:
    """What one source says, nested as the file, and how a key is named there for people."""

    values: Mapping[str, Any]
    name: Callable[[list[str]], str | None]

    def get(self, section: str, key: str) -> Any:
        """Return a value; None where nothing is said, or nothing that fits."""
        inner = self.values.get(section)
        return inner.get(key) if isinstance(inner, Mapping) else None

    def place(self, section: str, key: str) -> str:
        """Return what people call this key of this source."""
        return self.name([section, key]) or f"{section}.{key}"


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    """The settings that an enrolment stands for."""

    values: Mapping[str, Any] = field(default_factory=dict)
    mistakes: tuple[str, ...] = ()


def find_enrolment(sources: Iterable[Given], part: Part) -> Enrolled:
    """Return what the first source with an enrolment brings; else the one that was kept."""
    said = tuple(sources)
    try:
        found = next(_texts(said), None)
        if found is None:
            return Enrolled()
        place, text = found
        try:
            enrolment = decode(text)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
    except ValueError as error:
        return Enrolled(mistakes=(str(error),))
    return Enrolled(
        values=settings_of(enrolment, part), mistakes=tuple(_contradictions(said, enrolment, place))
    )


def _texts(sources: tuple[Given, ...]) -> Iterator[tuple[str, str]]:
    """Yield each text and where it stands; raise ValueError for a file that cannot be read."""
    for source in sources:
        text, file = source.get("bus", "enrolment"), source.get("bus", "enrolment_file")
        if text and isinstance(text, str):
            yield source.place("bus", "enrolment"), text
        if file and isinstance(file, str):
            try:
                yield f"{source.place('bus', 'enrolment_file')} {file}", Path(file).read_text()
            except UnicodeDecodeError as error:
                place = source.place("bus", "enrolment_file")
                raise ValueError(f"{place}: {file}: is no text of `gleaner enroll`") from error
            except OSError as error:
                place = source.place("bus", "enrolment_file")
                raise ValueError(f"{place}: {file}: {error.strerror}") from error
    if any(source.get("bus", key) for source in sources for key in ("url", "user")):
        return
    directories = [source.get("node", "data_directory") for source in sources]
    directory = next((one for one in directories if one and isinstance(one, str)), None)
    kept = Path(directory or default_data_directory()) / KEPT
    # Who may not read it is not who was enrolled.
    with contextlib.suppress(OSError):
        yield str(kept), kept.read_text(errors="replace")


def _contradictions(sources: tuple[Given, ...], enrolment: Enrolment, place: str) -> Iterator[str]:
    named = ((source.get("node", "id"), source) for source in sources)
    wanted, source = next(((name, one) for name, one in named if name), (None, None))
    if enrolment.node and source is not None and wanted != enrolment.node:
        yield (
            f"{source.place('node', 'id')}: is {wanted!r}, but this host is enrolled as "
            f"{enrolment.node!r} ({place}): leave it out, or enroll {wanted!r}"
        )
