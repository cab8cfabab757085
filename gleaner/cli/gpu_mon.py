"""Turn a configuration of gpu_mon (INI) into one of Gleaner: same GPUs, programs, people, logs."""

from __future__ import annotations

import configparser
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gleaner.bus.message import safe_level

Gpus = Literal["all"] | tuple[int, ...]


class ImportRefused(Exception):
    """The file is not one of gpu_mon, or not a whole one; one line for each mistake."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, kw_only=True)
class Process:
    """A `[process…]` section."""

    name: str
    command: str
    directory: str
    gpus: Gpus
    log: str | None


@dataclass(frozen=True, kw_only=True)
class GpuMon:
    """What a file of gpu_mon says."""

    ignore_programs: tuple[str, ...]
    ignores_differ: bool
    """Several `[gpu…]` sections ignore different programs; Gleaner has one list for all GPUs."""
    processes: tuple[Process, ...]
    watches_people: bool
    whitelist: tuple[str, ...]
    idle_seconds: int | None


def convert(path: Path) -> str:
    """Return the text of gleaner.toml for a file of gpu_mon; raise ImportRefused."""
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_text(), str(path))
        return write(read(parser))
    except OSError as error:
        raise ImportRefused([f"{path}: {error.strerror}"]) from error
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ImportRefused([f"{path}: {' '.join(str(error).split())}"]) from error
    except ImportRefused as error:
        raise ImportRefused([f"{path}: {mistake}" for mistake in error.mistakes]) from error


def read(parser: configparser.ConfigParser) -> GpuMon:
    """Return what the sections say; gpu_mon knows them by the beginning of their names."""
    mistakes: list[str] = []
    processes = [
        _process(parser[name], mistakes) for name in parser.sections() if name.startswith("process")
    ]
    ignored = [
        _words(parser[name].get("ignore_programs", ""))
        for name in parser.sections()
        if name.startswith("gpu")
    ]
    if not processes and not ignored:
        mistakes.append("neither a [gpu…] nor a [process…] section: not a file of gpu_mon")
    watches, whitelist, idle_seconds = _tty(parser, mistakes)
    if mistakes:
        raise ImportRefused(mistakes)
    return GpuMon(
        ignore_programs=tuple(dict.fromkeys(word for words in ignored for word in words)),
        ignores_differ=len({frozenset(words) for words in ignored}) > 1,
        processes=tuple(processes),
        watches_people=watches,
        whitelist=whitelist,
        idle_seconds=idle_seconds,
    )


def write(found: GpuMon) -> str:
    """Return the same as TOML, with a word on each difference."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: GpuMon) -> Iterator[str]:
    yield "# Made from a configuration of gpu_mon by `gleaner import gpu-mon`."
    yield "# What is different here:"
    yield "# - There is no interval: opens of a device and input are noticed at once, and a full"
    yield "#   check runs each second as the backstop (node.gpu.check_seconds)."
    yield "# - A program on a GPU counts by its whole name (as the kernel shortens it), so `n` is"
    yield "#   not ignored because `nvidia-smi` is."
    yield "# - Something starts where a GPU was idle for a minute (scheduler.gpu_idle_seconds)."
    yield "# - Programs are asked to end (TERM) and killed after grace_seconds, with all their"
    yield "#   children; one that ends by itself is started again ever more slowly."
    yield "# - GPUs are numbered as nvidia-smi shows them; gpu_mon took the number of the device."
    yield ""
    yield "[node.gpu]"
    if found.ignores_differ:
        yield "# gpu_mon had several lists, for different GPUs; here one holds for all of them."
    yield f"ignore_programs = {_toml(found.ignore_programs)}"
    yield ""
    yield "[node.people]"
    yield f"enabled = {_toml(found.watches_people)}"
    if found.whitelist:
        yield f"whitelist = {_toml(found.whitelist)}"
    if found.idle_seconds:
        yield f"idle_seconds = {found.idle_seconds}"
    elif found.idle_seconds == 0:
        yield "# idle_seconds was 0, by which nobody ever counted as active: so nobody is watched."
    for process in found.processes:
        yield from _workload(process)


def _workload(process: Process) -> Iterator[str]:
    yield ""
    yield "[[workload]]"
    yield f"name = {_toml(process.name)}"
    yield f"command = {_toml(process.command)}"
    yield f"directory = {_toml(process.directory)}"
    if isinstance(process.gpus, tuple) and len(process.gpus) > 1:
        yield "# One run over these GPUs, when all of them are idle."
    yield f"gpus = {_toml(process.gpus)}"
    if process.log:
        yield f"log = {_toml(process.log)}"
    yield "# gpu_mon ran it as whoever had started gpu_mon. A Gleaner that is root takes `nobody`:"
    yield '# user = "…"'


def _process(section: configparser.SectionProxy, mistakes: list[str]) -> Process:
    missing = [key for key in ("cmd", "dir", "gpus") if not section.get(key, "").strip()]
    mistakes += [f"[{section.name}] {key} is missing" for key in missing]
    return Process(
        name=safe_level(section.name)[:63],
        command=_command(section, mistakes),
        directory=section.get("dir", ""),
        gpus=_gpus(section, mistakes),
        log=section.get("log") or None,
    )


def _command(section: configparser.SectionProxy, mistakes: list[str]) -> str:
    command = section.get("cmd", "")
    try:
        shlex.split(command)
    except ValueError as error:
        mistakes.append(f"[{section.name}] cmd: {error}")
    return command


def _gpus(section: configparser.SectionProxy, mistakes: list[str]) -> Gpus:
    text = section.get("gpus", "")
    if text.strip().upper() == "ALL":
        return "all"
    try:
        return tuple(sorted({int(word) for word in _words(text)}))
    except ValueError:
        mistakes.append(f"[{section.name}] gpus: {text!r} is neither ALL nor a list of numbers")
        return ()


def _tty(
    parser: configparser.ConfigParser, mistakes: list[str]
) -> tuple[bool, tuple[str, ...], int | None]:
    if not parser.has_section("tty"):
        return False, (), None
    section = parser["tty"]
    try:
        enabled = section.getboolean("enabled", fallback=False)
    except ValueError:
        enabled = False
        mistakes.append(f"[tty] enabled: {section['enabled']!r} is neither true nor false")
    try:
        idle_seconds = section.getint("idle_seconds")
    except ValueError:
        idle_seconds = None
        mistakes.append(f"[tty] idle_seconds: {section['idle_seconds']!r} is no number")
    return enabled and idle_seconds != 0, _words(section.get("whitelist", "")), idle_seconds


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _toml(value: object) -> str:
    """Return a value as TOML, which writes strings, booleans and arrays of them as JSON does."""
    return json.dumps(value, ensure_ascii=False)
