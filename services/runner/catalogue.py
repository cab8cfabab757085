"""The node's own catalogue: what may run here, and what is wrong with each entry, in words.

An entry with a problem is held and says so; the others go on. A configuration file that somebody
else could have written holds all of them, because it names commands that we would run.
"""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import shlex
import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

from gleaner.bus.messages import CatalogueEntry
from gleaner.settings import WorkloadSettings
from services.runner.launcher import Account

_LOOK = (
    'cd -- "$1" 2>/dev/null || { echo directory; exit; }; '
    '[ -f "$2" ] && [ -x "$2" ] || echo program'
)
"""Asked of the kernel as that user, since rights are more than mode bits."""


def digest(entry: WorkloadSettings) -> str:
    """Return what changes with any change of an entry."""
    canonical = json.dumps(entry.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def check(
    entries: tuple[WorkloadSettings, ...], file: Path | None, environment: Mapping[str, str]
) -> tuple[CatalogueEntry, ...]:
    """Return the catalogue as it stands now; asks the file system, so it may block."""
    about_file = None if file is None else distrust(file)
    return tuple(
        CatalogueEntry(
            name=entry.name,
            kind=entry.kind,
            gpus=entry.gpus,
            digest=digest(entry),
            grace_seconds=entry.grace_seconds,
            problems=(about_file,) if about_file else problems(entry, environment),
        )
        for entry in entries
    )


def account_of(entry: WorkloadSettings) -> Account | None:
    """Return whom an entry runs as, None for whoever runs us; KeyError if there is no such user.

    Never root unless the entry says so: `nobody` is the default of a runner that is root.
    """
    name = entry.user or ("nobody" if os.geteuid() == 0 else None)
    if name is None:
        return None
    found = pwd.getpwnam(name)
    if found.pw_uid == os.geteuid():
        return None
    return Account(
        name=name,
        uid=found.pw_uid,
        gid=found.pw_gid,
        groups=tuple(os.getgrouplist(name, found.pw_gid)),
        home=found.pw_dir,
        shell=found.pw_shell,
    )


def user_of(entry: WorkloadSettings) -> str:
    """Return the name of whom an entry runs as."""
    account = account_of(entry)
    if account is not None:
        return account.name
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def problems(entry: WorkloadSettings, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return why an entry cannot run as it is written."""
    found = _about_log(entry)
    try:
        account = account_of(entry)
    except KeyError:
        return (f"user {entry.user or 'nobody'} does not exist", *found)
    if account is not None and os.geteuid() != 0:
        return (f"user {account.name}: only root may start it as another user", *found)
    if not os.path.isdir(entry.directory):
        return (f"directory {entry.directory} does not exist", *found)
    return (*_about_program(entry, account, environment), *found)


def distrust(file: Path) -> str | None:
    """Return why a file may have been written by somebody else than its owner, or None."""
    for path in (file, file.absolute().parent):
        try:
            status = path.stat()
            owner = pwd.getpwuid(status.st_uid).pw_name
        except KeyError:
            owner = str(status.st_uid)
        except OSError as error:
            return f"{path}: {error.strerror}"
        if status.st_uid not in (0, os.geteuid()):
            return f"{path} belongs to {owner}, who could make us run anything"
        if path != file and status.st_mode & stat.S_ISVTX:
            continue
        if status.st_mode & stat.S_IWOTH:
            return f"{path} may be written by everybody (chmod o-w)"
        if status.st_mode & stat.S_IWGRP and not _is_private(status):
            return f"{path} may be written by its group (chmod g-w)"
    return None


def _is_private(status: os.stat_result) -> bool:
    """Whether the group is the owner's own, as distributions make one for each user."""
    try:
        owner, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    return owner.pw_name == group.gr_name and set(group.gr_mem) <= {owner.pw_name}


def _about_program(
    entry: WorkloadSettings, account: Account | None, environment: Mapping[str, str]
) -> tuple[str, ...]:
    program = shlex.split(entry.command)[0]
    path = (entry.environment.get("PATH") or environment.get("PATH")) or os.defpath
    found = str(entry.directory / program) if "/" in program else shutil.which(program, path=path)
    if found is None:
        return (f"program {program} is not in PATH ({path})",)
    whom = account.name if account else "the user of this runner"
    answer = _ask(entry.directory, found, account)
    if "directory" in answer:
        return (f"directory {entry.directory} may not be entered by {whom}",)
    if "program" in answer:
        return (f"program {found} does not exist, or may not be run by {whom}",)
    if _is_open_to_all(found):
        return (f"program {found} may be written by everybody (chmod o-w)",)
    return ()


def _is_open_to_all(program: str) -> bool:
    """Whether anybody could put something else there, to be run as the entry's user."""
    try:
        return bool(os.stat(program).st_mode & stat.S_IWOTH)
    except OSError:  # Its user may look where we may not, as on a file system over the network.
        return False


def _ask(directory: Path, program: str, account: Account | None) -> str:
    if account is None:
        if not os.access(directory, os.X_OK):
            return "directory"
        is_fine = os.path.isfile(program) and os.access(program, os.X_OK)
        return "" if is_fine else "program"
    try:
        return subprocess.run(
            ["/bin/sh", "-c", _LOOK, "sh", str(directory), program],
            user=account.uid,
            group=account.gid,
            extra_groups=account.groups,
            cwd="/",
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        # A file system that hangs: whoever runs it will see.
        return "directory"


def _about_log(entry: WorkloadSettings) -> tuple[str, ...]:
    log = entry.log
    if log is None:
        return ()
    if not os.path.isdir(log.parent):
        return (f"log directory {log.parent} does not exist",)
    if os.path.islink(log) or os.path.isdir(log):
        return (f"log {log} is not a file",)
    if os.path.exists(log) and not os.access(log, os.W_OK):
        return (f"log {log} cannot be written by this runner",)
    if not os.access(log.parent, os.W_OK | os.X_OK):
        return (f"log directory {log.parent} cannot be written by this runner",)
    return ()
