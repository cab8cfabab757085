"""The files of a deployment: read and written whole, for the one user that everything runs as."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from gleaner.cli.deployment.register import VERSION, Register, broker_files
from gleaner.runtime import write_atomically

CERTIFICATES = "certificates"
HEARD_SECONDS = 5.0


class Unusable(Exception):
    """A file or folder that cannot be used; the text is for the administrator."""


@contextlib.contextmanager
def usable(path: Path | None = None) -> Iterator[None]:
    """Turn what the system says of a file into one line."""
    try:
        yield
    except OSError as error:
        raise Unusable(f"{path or error.filename}: {error.strerror}") from error


def check(directory: Path) -> None:
    """Raise Unusable for a volume that is not there, or that we may not write."""
    if not directory.is_dir():
        raise Unusable(f"{directory}: there is no such folder; is the volume mounted?")
    if not os.access(directory, os.W_OK | os.X_OK):
        owner = directory.stat().st_uid
        raise Unusable(
            f"{directory}: belongs to user {owner} and we are {os.geteuid()}, so we may not write "
            f"it: chown -R {os.geteuid()} it, or remove the volume"
        )


def place(path: Path, text: str, mode: int = 0o600) -> bool:
    """Write a file unless it says so already; return whether it was written.

    Root gives it to whom the volume belongs, because the services run as somebody else.
    """
    with usable(path):
        if path.is_file() and path.read_text(errors="replace") == text:
            return False
        make_folder(path.parent)
        write_atomically(path, text, mode)
        give(path)
    return True


def make_folder(path: Path) -> None:
    """Make a folder for its owner alone."""
    if not path.is_dir():
        with usable():
            path.mkdir(mode=0o700)
            give(path)


def give(path: Path) -> None:
    """Give what root made to whom the folder above belongs."""
    if os.geteuid() == 0:
        above = path.parent.stat()
        os.chown(path, above.st_uid, above.st_gid)


@contextlib.contextmanager
def alone(broker: Path) -> Iterator[None]:
    """Wait until nobody else changes who may connect."""
    check(broker)
    path = broker / "accounts.lock"
    with usable():
        # Private: whoever may open it may hold it.
        path.touch(mode=0o600)
        give(path)
        file = path.open("a")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read(broker: Path) -> Register | None:
    """Return who may connect; None before the first `gleaner prepare`.

    A damaged list is never replaced: every host would be thrown off, and would need a new
    enrolment.
    """
    path = broker / "accounts.json"
    try:
        said = json.loads(path.read_text())
        version = said["version"]
        if isinstance(version, int) and version > VERSION:
            raise Unusable(
                f"{path}: was written by a newer Gleaner (version {version}, this one knows "
                f"{VERSION}): use that one, or restore the volume from before"
            )
        return Register.model_validate(said)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise Unusable(
            f"{path}: is damaged; restore it from a backup, or remove it and enroll every host "
            "again"
        ) from error


def write(broker: Path, register: Register) -> bool:
    """Write the list and all that mosquitto reads; return whether anything is new.

    What tells mosquitto to look comes last.
    """
    text = register.model_dump_json(indent=2) + "\n"
    is_new = place(broker / "accounts.json", text)
    with usable():
        certificate = broker / CERTIFICATES / "server.pem"
        shown = certificate.read_text() if register.tls else ""
        make_folder(broker / "data")
    for name, content in broker_files(register, shown).items():
        is_new |= place(broker / name, content)
    return is_new


def is_heard(broker: Path, seconds: float = HEARD_SECONDS) -> bool:
    """Wait until the broker knows what was written; False if it does not run."""
    with usable():
        wanted = (broker / "generation").read_text()
    deadline = time.monotonic() + seconds
    heard = broker / "heard"
    while heard.is_file() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if heard.read_text() == wanted:
                return True
        time.sleep(0.05)
    return False
