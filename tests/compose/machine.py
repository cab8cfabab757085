"""A machine that systemd runs: a container of Debian with Gleaner in it, and nothing started."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Self

from tests.compose.deployment import TAG, wait

IMAGE = f"gleaner-systemd:{TAG}"
# Each image has what its service needs below the same folder: together they are all of Gleaner.
RECIPE = f"""
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends systemd systemd-sysv dbus libpam-systemd \
        python3 mosquitto \
    && rm -rf /var/lib/apt/lists/* \
    && systemctl disable mosquitto && useradd --create-home somebody
COPY --from=gleaner-node:{TAG} /opt/gleaner /opt/gleaner
COPY --from=gleaner-scheduler:{TAG} /opt/gleaner /opt/gleaner
COPY --from=gleaner-recorder:{TAG} /opt/gleaner /opt/gleaner
COPY --from=gleaner-web:{TAG} /opt/gleaner /opt/gleaner
ENV PATH=/opt/gleaner/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin container=docker
STOPSIGNAL SIGRTMIN+3
CMD ["/sbin/init"]
"""
_CGROUPS = Path("/sys/fs/cgroup")


def build_image() -> None:
    """Make the image of what the other images have."""
    done = subprocess.run(
        ["docker", "build", "-t", IMAGE, "-"], input=RECIPE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Machine:
    """One machine; what it is told to do, it does as root, or as somebody."""

    def __init__(self, name: str, *options: str) -> None:
        """`options` are those of `docker run`."""
        self.name = name
        self._options = options

    def __enter__(self) -> Self:
        has_v2 = (_CGROUPS / "cgroup.controllers").exists()
        # With cgroup v1 systemd wants the hierarchies as they are; with v2 one of its own.
        # Not `privileged` there: that needs every capability, which not every machine grants.
        how = (
            ["--privileged", "--cgroupns=private"]
            if has_v2
            else ["--cgroupns=host", f"--volume={_CGROUPS}:{_CGROUPS}:rw", "--cap-add=SYS_ADMIN",
                  "--cap-add=SYS_PTRACE", "--cap-add=SYS_NICE", "--cap-add=DAC_READ_SEARCH",
                  "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined",
                  "--device-cgroup-rule=c *:* rwm"]
        )  # fmt: skip
        subprocess.run(
            ["docker", "run", "-d", "--name", self.name, "--tmpfs=/run", "--tmpfs=/run/lock", *how,
             *self._options, IMAGE],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        wait(lambda: self.run("systemctl", "is-system-running")[1] == "running\n", 30)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["docker", "rm", "-f", "-v", self.name], stdout=subprocess.DEVNULL)

    def run(self, *command: str, user: str = "root", **variables: str) -> tuple[int, str]:
        """Run a command; return its status and what it said."""
        given = [f"--env={name}={value}" for name, value in variables.items()]
        done = subprocess.run(
            ["docker", "exec", f"--user={user}", *given, self.name, *command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100,
        )  # fmt: skip
        return done.returncode, done.stdout

    def shell(self, script: str) -> str:
        """Run a script that has to succeed; return what it said."""
        status, said = self.run("bash", "-euc", script)
        assert status == 0, said
        return said.strip()

    def gleaner(self, *arguments: str, **variables: str) -> str:
        """Run `gleaner`, which has to succeed; return what it said."""
        status, said = self.run("gleaner", *arguments, **variables)
        assert status == 0, f"{said}\n{self.journal()}"
        return said.strip()

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        subprocess.run(
            ["docker", "exec", "-i", self.name, "sh", "-c", f"install -D /dev/stdin {path}"],
            input=text, text=True, check=True,
        )  # fmt: skip

    def show(self, unit: str, key: str) -> str:
        """Return what systemd says of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={key}", unit)[1].strip()

    def processes(self, text: str) -> dict[int, str]:
        """Return pid to command line of the processes that have a text in theirs."""
        lines = self.shell(
            'for p in /proc/[0-9]*; do echo "${p#/proc/} $(tr "\\0" " " <$p/cmdline)"; done 2>&1'
        )
        found = (line.partition(" ") for line in lines.splitlines())
        return {int(pid): line for pid, _, line in found if pid.isdigit() and text in line}

    def has_page(self) -> bool:
        """Whether the page answers."""
        ask = "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/', timeout=5)"
        return self.run("python3", "-c", ask)[0] == 0

    def journal(self) -> str:
        """Return what was logged."""
        return self.run("journalctl", "--no-pager", "--lines=60", "--unit=gleaner*")[1]
