"""Which container a process is in, and what people call it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from services.collector.processes.containers import (
    ContainerNames,
    container_of,
    look_up_name,
    shortened,
)
from tests.builders import until

ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("cgroups", "container"),
    [
        # cgroup v1, where the last line says nothing.
        (f"5:devices:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n", ID),
        (f"4:memory:/kubepods/burstable/pod8/{ID}\n0::/system.slice/containerd.service\n", ID),
        (f"0::/../cri-containerd-{ID}.scope\n", ID),
        ("0::/lxc.payload.web1/system.slice/ssh.service\n", "web1"),
        ("0::/lxc/web1\n", "web1"),
        ("0::/machine.slice/machine-old\\x2dbox.scope\n", "old-box"),
        ("0::/machine.slice/systemd-nspawn@box.service/payload\n", "box"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice\n", None),
        ("0::/machine.slice\n", None),
    ],
)
def test_every_line_of_a_process_is_looked_at(cgroups: str, container: str | None) -> None:
    assert container_of(cgroups) == container


def test_an_id_is_cut_and_a_name_is_not() -> None:
    assert shortened(ID) == ID[:12]
    assert shortened("a-machine-with-a-long-name") == "a-machine-with-a-long-name"
    assert shortened(None) is None


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_docker_calls_it_by_its_name(tmp_path: Path) -> None:
    write(tmp_path / "var/lib/docker/containers" / ID / "config.v2.json", {"Name": "/notebook"})

    assert look_up_name(tmp_path, ID, 1) == "notebook"


def test_docker_keeps_its_names_where_it_was_told_to(tmp_path: Path) -> None:
    hostname = f"/data/docker/containers/{ID}/hostname"
    bundle = {"mounts": [{"destination": "/proc"}, {"source": hostname}]}
    write(tmp_path / "proc/8/cmdline", f"containerd-shim\0-namespace\0moby\0-id\0{ID}\0")
    write(tmp_path / "proc/8/cwd/config.json", bundle)
    (tmp_path / "proc/8/stat").write_text("8 (shim) S 1 8 8 0")
    (tmp_path / "proc/8/root").symlink_to(tmp_path)
    write(tmp_path / "data/docker/containers" / ID / "config.v2.json", {"Name": "/notebook"})

    assert look_up_name(tmp_path, ID, 8) == "notebook"


@pytest.mark.parametrize(
    ("namespace", "annotations", "name"),
    [
        ("default", {"nerdctl/name": "notebook"}, "notebook"),
        (
            "k8s.io",
            {
                "io.kubernetes.cri.container-name": "main",
                "io.kubernetes.cri.sandbox-name": "train-0",
            },
            "train-0/main",
        ),
        ("default", None, None),
    ],
)
def test_containerd_keeps_the_name_that_kubernetes_or_nerdctl_gave(
    tmp_path: Path, namespace: str, annotations: object, name: str | None
) -> None:
    tasks = tmp_path / "run/containerd/io.containerd.runtime.v2.task"
    write(tasks / namespace / ID / "config.json", {"annotations": annotations})

    assert look_up_name(tmp_path, ID, 1) == name


def test_podman_tells_the_name_to_the_process_above(tmp_path: Path) -> None:
    write(tmp_path / "proc/9/cmdline", "sh\0")
    write(tmp_path / "proc/8/cmdline", f"/usr/bin/conmon\0-c\0{ID}\0-n\0notebook\0")
    (tmp_path / "proc/9/stat").write_text("9 (a (b) S 8 9 9 0")
    (tmp_path / "proc/8/stat").write_text("8 (conmon) S 1 8 8 0")

    assert look_up_name(tmp_path, ID, 9) == "notebook"


@pytest.mark.parametrize("content", ["", "[]", '{"Name": null}', "{"])
def test_a_file_that_says_something_else_is_no_name(tmp_path: Path, content: str) -> None:
    write(tmp_path / "var/lib/docker/containers" / ID / "config.v2.json", content)

    assert look_up_name(tmp_path, ID, 1) is None


def test_a_name_that_somebody_made_up_steers_no_terminal(tmp_path: Path) -> None:
    write(tmp_path / "proc/8/cmdline", f"conmon\0-c\0{ID}\0-n\0\x1b[2J{'x' * 200}\0")
    (tmp_path / "proc/8/stat").write_text("8 (conmon) S 1 8 8 0")

    assert look_up_name(tmp_path, ID, 8) == "?[2J" + "x" * 96
    assert container_of("0::/machine.slice/machine-a\\x1bb.scope\n") == "a?b"


def test_a_machine_is_its_own_name(tmp_path: Path) -> None:
    assert look_up_name(tmp_path, "box", 1) == "box"


async def test_a_disk_that_does_not_answer_keeps_nobody_waiting(tmp_path: Path) -> None:
    file = tmp_path / "var/lib/docker/containers" / ID / "config.v2.json"
    file.parent.mkdir(parents=True)
    os.mkfifo(file)
    names, started = ContainerNames(tmp_path), time.monotonic()

    assert names.of(None, 1) is None
    assert names.of(ID, 1) is None
    assert time.monotonic() - started < 1
    with file.open("w") as late:
        late.write('{"Name": "/notebook"}')
    await until(lambda: names.of(ID, 1) == "notebook")
