"""What a runner must remember over a crash, in plain files below `DATA/node`.

A run's folder has its spec, the supervisor's status, and a journal: one line for each state of the
run and for the cause of its leaving. A line is in the kernel's hands before the signal goes out,
and on the disk a moment later. When the disk is full, leaving still works; only nothing new
starts.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gleaner.bus.messages import Cause, Run
from gleaner.runtime import Fatal, write_atomically

logger = logging.getLogger(__name__)

SEEN_MAX = 2000
"""Run ids kept; a term that repeats an older one than these is not a scheduler's."""


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """One run as its journal tells it."""

    spec: dict[str, Any]
    fact: Run
    cause: Cause | None


class RunJournal:
    """The journal of one run; never raises, because nobody may be kept from leaving."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None
        self._is_fine = True

    def note(self, **what: Any) -> None:
        """Write one line; it is with the kernel when this returns."""
        try:
            if self._handle is None:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._handle = os.open(self._path, flags, 0o600)
                # The one before us may have died within a line.
                os.write(self._handle, b"\n")
            os.write(self._handle, json.dumps(what).encode() + b"\n")
        except OSError as error:
            if self._is_fine:
                logger.error("%s: %s; a crash now would forget this run", self._path, error)
            self._is_fine = False

    def sync(self) -> None:
        """Bring it to the disk; for a thread."""
        handle = self._handle
        if handle is not None:
            with contextlib.suppress(OSError):
                os.fdatasync(handle)

    def close(self) -> None:
        """Let go of the file."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class Journal:
    """Everything that is kept; one runner at a time has it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "runner.json"
        self.term: int | None = None
        self.generation: int | None = None
        self.seen: list[str] = []
        """Ids of runs that were started here, oldest first."""

    def load(self) -> None:
        """Read what was kept; nothing is a good beginning, half a file is not."""
        try:
            kept = json.loads(self._file.read_text())
            self.term, self.generation = kept["term"], kept["generation"]
            self.seen = kept["seen"]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            # Without it an old scheduler would be obeyed again, and an old grant start again.
            raise Fatal(f"{self._file}: {error}") from error

    def save(self, term: int | None, generation: int | None, starting: str | None = None) -> None:
        """Write down, durably, whom we obey and what is about to start; may raise OSError."""
        seen = [*self.seen, starting] if starting else self.seen
        seen = seen[-SEEN_MAX:]
        text = json.dumps({"term": term, "generation": generation, "seen": seen})
        write_atomically(self._file, text)
        self.term, self.generation, self.seen = term, generation, seen

    def folder(self, run: str) -> Path:
        """Return the folder of a run."""
        return self._directory / "runs" / run

    def begin(self, fact: Run, spec: dict[str, Any]) -> None:
        """Write down what is to be started, durably; may raise OSError."""
        folder = self.folder(fact.run)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(folder / "spec.json", json.dumps(spec, indent=1))
        # The supervisor's status has its room on the disk before there is anything to say.
        (folder / "status.json").write_text(" " * 4096)
        line = json.dumps({"run": fact.model_dump(mode="json")})
        write_atomically(folder / "journal", line + "\n")

    def open(self, run: str) -> RunJournal:
        """Return the journal of a run."""
        return RunJournal(self.folder(run) / "journal")

    def forget(self, run: str) -> None:
        """Remove a run's folder."""
        shutil.rmtree(self.folder(run), ignore_errors=True)

    def remembered(self) -> list[Remembered]:
        """Return all runs that have a folder; what cannot be read is named and left alone."""
        found = []
        for folder in sorted((self._directory / "runs").glob("*")):
            try:
                one = _remembered(folder)
            except (OSError, ValueError, KeyError) as error:
                logger.error("%s: %s; it is left alone", folder, error)
                continue
            if one is None:
                # It was not written down completely, so it was not started either.
                shutil.rmtree(folder, ignore_errors=True)
            else:
                found.append(one)
        return found


def _remembered(folder: Path) -> Remembered | None:
    fact: Run | None = None
    cause: Cause | None = None
    with contextlib.suppress(FileNotFoundError):
        for line in (folder / "journal").read_text().splitlines():
            try:
                noted = json.loads(line)
            except ValueError:
                # The last line of a crash or of a full disk; the ones before it hold.
                continue
            if "run" in noted:
                fact = Run.model_validate_json(json.dumps(noted["run"]))
                cause = fact.cause or cause
            if "cause" in noted:
                cause = Cause.model_validate_json(json.dumps(noted["cause"]))
    if fact is None:
        return None
    spec = json.loads((folder / "spec.json").read_text())
    return Remembered(spec=spec, fact=fact, cause=cause)
