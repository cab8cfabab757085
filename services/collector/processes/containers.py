"""Which container a process is in, by its cgroups, and what people call it, by files on the host.

No engine is asked: its socket is as good as root, and this only reads.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from services.collector.patience import Patience
from services.collector.printable import printable

_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
"""Docker, containerd, CRI-O and Podman all name a container's cgroup by its full id."""
_MACHINE = re.compile(
    r"/(?:lxc(?:\.payload)?[./]|machine-|systemd-nspawn@)(?P<name>[\w.\\-]+?)"
    r"(?:\.scope|\.service)?(?:/|$)",
    re.MULTILINE,
)
"""LXC and systemd-nspawn name it by what people call the machine."""
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_SHORT = 12
_GENERATIONS = 12
_OCI_NAMES = ("nerdctl/name", "io.kubernetes.cri.container-name", "io.kubernetes.container.name")
_OCI_PODS = ("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name")
_Process = tuple[Path, list[str]]
"""Its folder below /proc, and the words of its command line."""
_LARGEST_BYTES = 1_000_000
_LONGEST_NAME = 100
"""What stands above a process may be its owner's own invention."""


def container_of(cgroups: str | None) -> str | None:
    """Return the innermost container's full id, or the machine's name; all lines are looked at."""
    ids = _ID.findall(cgroups or "")
    if ids:
        return str(ids[-1])
    machine = _MACHINE.search(cgroups or "")
    if machine is None:
        return None
    return printable(_ESCAPED.sub(lambda found: chr(int(found[1], 16)), machine["name"]))


def shortened(container: str | None) -> str | None:
    """Return an id as `docker ps` prints it; the name of a machine stays as it is."""
    return container[:_SHORT] if container and _ID.fullmatch(container) else container


class ContainerNames:
    """What people call containers, each looked for once; None where no file says so.

    A disk that is slow keeps nobody waiting: the name is there the next time.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._names = Patience[str, str]()

    def of(self, container: str | None, parent_pid: int) -> str | None:
        """Return the name of a container, which one of its processes has this parent."""
        if container is None:
            return None
        look_up = functools.partial(look_up_name, self._root, container, parent_pid)
        return self._names.of(container, look_up)


def look_up_name(root: Path, container: str, parent_pid: int) -> str | None:
    """Return what files below a root, `/` in earnest, say that people call a container."""
    name: str | None = container
    if _ID.fullmatch(container):
        above = tuple(_above(root, parent_pid))
        shim = _shim(root, above)
        # As the shim sees it: we may be in a container ourselves.
        host = shim / "root" if shim else root
        name = (
            _docker(host, container, shim) or _bundle(host, container) or _monitor(above, container)
        )
    return name and printable(name)[:_LONGEST_NAME]


def _bundle(root: Path, container: str) -> str | None:
    """Return what Kubernetes or nerdctl wrote into what containerd starts it by."""
    tasks = root / "run/containerd/io.containerd.runtime.v2.task"
    for namespace in ("k8s.io", "default"):
        notes = _read(tasks / namespace / container / "config.json").get("annotations") or {}
        name = next((str(notes[key]) for key in _OCI_NAMES if notes.get(key)), None)
        pod = next((str(notes[key]) for key in _OCI_PODS if notes.get(key)), None)
        if name:
            return f"{pod}/{name}" if pod else name
    return None


def _monitor(above: Iterable[_Process], container: str) -> str | None:
    """Return the name that Podman or CRI-O tells conmon, which is somewhere above."""
    for _, words in above:
        if container in words and "-n" in words[:-1]:
            return words[words.index("-n") + 1]
    return None


def _docker(host: Path, container: str, shim: Path | None) -> str | None:
    """Return the name that Docker keeps where it keeps its data, often on a larger disk.

    The shim works in the folder of what the container is started by, whose mounts say where.
    """
    places = [Path("var/lib/docker/containers", container)]
    for mount in (shim and _read(shim / "cwd" / "config.json").get("mounts")) or ():
        folder = Path(str(mount.get("source", "")).lstrip("/")).parent
        if folder.name == container:
            places.append(folder)
    kept = (_read(host / place / "config.v2.json").get("Name") for place in places)
    return next((str(name).lstrip("/") for name in kept if name), None)


def _shim(root: Path, above: Iterable[_Process]) -> Path | None:
    """Return the process of containerd that holds the container.

    Only root's: it says where the host's files are, and root reads them then.
    """
    owner = root.stat().st_uid
    for process, words in above:
        with contextlib.suppress(OSError):
            if {"-namespace", "-id"} <= set(words) and process.stat().st_uid == owner:
                return process
    return None


def _above(root: Path, pid: int) -> Iterator[_Process]:
    """Yield a process and those above it, each with the words of its command line."""
    for _ in range(_GENERATIONS):
        process = root / "proc" / str(pid)
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            stat = (process / "stat").read_text(errors="replace")
        except OSError:
            return
        yield process, words
        pid = int(stat.rpartition(")")[2].split()[1])


def _read(path: Path) -> dict[str, Any]:
    """Return what is in a file; nothing if it is not there, not ours to read, or something else."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LARGEST_BYTES))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
