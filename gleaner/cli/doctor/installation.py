"""What was set up for Gleaner: its folder, broker and account, workloads, keys and secrets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gleaner.bus.connection import Connection
from gleaner.bus.signature import parse_public_key
from gleaner.cli.connect import enrolled_node, where
from gleaner.cli.doctor.finding import Finding, fail, ok, warn
from gleaner.cli.machine.broker import Address, find_mosquitto, is_answered
from gleaner.cli.settings import Settings
from gleaner.runtime import Fatal
from gleaner.settings.enrolled import KEPT
from services.runner import catalogue


def data_directory(directory: Path) -> Finding:
    """Look whether anything can be kept."""
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    if os.access(nearest, os.W_OK | os.X_OK):
        text = str(directory) if nearest == directory else f"{directory} can be made"
        return ok("data directory", text)
    return fail(
        "data directory",
        f"{nearest} may not be written: nothing can be kept, so nothing starts",
        "set node.data_directory, or give us that folder",
    )


def broker(settings: Settings) -> Iterator[Finding]:
    """Look whether there is a broker, and who we are there."""
    try:
        to: Connection = where(settings)
    except Fatal as error:
        remedy = "set bus.password_file to a file that we may read"
        yield fail("credentials", str(error), remedy)
        return
    if is_answered(Address(*to.address)):
        yield ok("broker", f"{to.url} answers")
    elif find_mosquitto() is not None:
        yield warn(
            "broker",
            f"{to.url} does not answer; `gleaner up` starts one, other services wait for it",
            "start the broker, or `gleaner up`",
        )
    else:
        yield fail(
            "broker",
            f"{to.url} does not answer and mosquitto is not installed: nobody hears anybody",
            "apt install mosquitto, or set bus.url",
        )
    node = enrolled_node(settings)
    enrolled = f", enrolled as the node {node}" if node else ""
    if to.user:
        yield ok("credentials", f"as {to.user}{enrolled}")
    else:
        yield warn(
            "credentials",
            f"without an account: we may look, but not pause or drain{enrolled}",
            "ask as root or as who runs `gleaner up`, or set bus.user and bus.password_file",
        )


def workloads(settings: Settings) -> Finding:
    """Look whether there is anything to run."""
    if not settings.workload:
        remedy = "add a [[workload]] to the configuration"
        return warn("workloads", "none: idle GPUs stay idle", remedy)
    entries = catalogue.check(settings.workload, settings.path, os.environ)
    wrong = [f"{entry.name}: {problem}" for entry in entries for problem in entry.problems]
    if wrong:
        remedy = "mend it in the configuration; if the node runs as root, examine it as root"
        return warn("workloads", f"cannot run: {'; '.join(wrong)}", remedy)
    return ok("workloads", ", ".join(entry.name for entry in entries))


def keys(settings: Settings) -> Finding:
    """Look whom the node would obey, and who else could speak as our scheduler."""
    name = "scheduler keys"
    for key in settings.node.scheduler_keys:
        try:
            parse_public_key(key)
        except ValueError as error:
            return fail(
                name,
                f"node.scheduler_keys: {error}: this scheduler is not obeyed",
                "copy the line from keys/scheduler.pub of the scheduler",
            )
    if settings.node.scheduler_keys:
        return ok(name, f"{len(settings.node.scheduler_keys)} pinned")
    file = settings.scheduler.key_file or settings.node.data_directory / "keys" / "scheduler.key"
    try:
        mode = file.stat().st_mode
    except OSError:
        return ok(name, "none pinned; `gleaner up` makes and pins its own")
    if mode & 0o077:
        return fail(
            name,
            f"{file} can be read by others, who can then start runs",
            f"chmod 600 {file}, and make a new key if others had access",
        )
    return ok(name, f"{file}, for its owner alone")


def private_files(settings: Settings) -> Finding:
    """Look for secrets, databases and locks that everybody may read."""
    directory = settings.node.data_directory
    private = (
        settings.bus.password_file,
        settings.bus.enrolment_file,
        directory / KEPT,
        settings.bus.key_file,
        settings.web.control_token_file,
        directory / "up.lock",
        directory / "scheduler" / "lock",
        directory / "node" / "outbox.sqlite",
        directory / "recorder" / "gleaner.sqlite",
    )
    files = " ".join(str(file) for file in private if file is not None and _is_open(file))
    if not files:
        return ok("private files", "are read by nobody else")
    return warn(
        "private files",
        f"can be read by everybody, and a lock or database also held: {files}",
        f"chmod o= {files}",
    )


def _is_open(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & 0o007)
    except OSError:
        return False
