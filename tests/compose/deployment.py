"""A server side started by the files that people use, under a name and at ports of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gleaner.cli.machine.broker import free_port

ROOT = Path(__file__).parents[2]
SERVICES = ("broker", "scheduler", "recorder", "web")
TAG = "test"


def compose_command() -> list[str]:
    """Return the Compose that is here: v2, or Debian's docker-compose 1.29."""
    has_plugin = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    if has_plugin == 0:
        return ["docker", "compose"]
    assert shutil.which("docker-compose"), "no Compose is installed: run `make setup-compose`"
    return ["docker-compose"]


class Deployment:
    """One project of Compose; its settings are variables, as in a file `.env`."""

    def __init__(self, directory: Path, project: str, *files: Path, **settings: str) -> None:
        """`files` come on top of the project's own; `directory` keeps `.env` and configuration."""
        self.directory = directory
        self.project = project
        self.web_port, self.node_port, self.people_port = free_port(), free_port(), free_port()
        self.configuration = directory / "etc"
        self.configuration.mkdir(parents=True, exist_ok=True)
        for name in ("data", "workloads"):
            (directory / name).mkdir(exist_ok=True)
        self.settings = {
            "GLEANER_TAG": TAG,
            "GLEANER_HEALTH_INTERVAL": "2s",
            "GLEANER_WEB_PORT": str(self.web_port),
            "GLEANER_NODE_PORT": str(self.node_port),
            "GLEANER_PEOPLE_PORT": f"127.0.0.1:{self.people_port}",
            "GLEANER_SERVER": f"127.0.0.1:{self.node_port}",
            "GLEANER_ETC": str(self.configuration),
            "GLEANER_NODE_DATA": str(directory / "data"),
            "GLEANER_WORKLOADS": str(directory / "workloads"),
        } | settings
        (directory / "env").touch()
        self._command = [*compose_command(), "--env-file", str(directory / "env"), "-p", project]
        for file in (ROOT / "docker-compose.yml", *files):
            self._command += ["-f", str(file)]
        self._command += ["--project-directory", str(ROOT)]

    @property
    def shell(self) -> str:
        """The command as a shell has it."""
        return shlex.join(self._command)

    def compose(self, *arguments: str, succeeds: bool = True, **settings: str) -> str:
        """Run Compose; return what it said, errors included."""
        done = subprocess.run(
            [*self._command, *arguments],
            cwd=ROOT,
            env=os.environ | self.settings | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert not succeeds or done.returncode == 0, f"{arguments}:\n{done.stdout}"
        return done.stdout

    def up(self, *services: str, **settings: str) -> None:
        """Start, and wait until the page knows that the scheduler is there."""
        self.compose("up", "-d", *services, **settings)
        self.wait_until_ready()

    def wait_until_ready(self, seconds: float = 30) -> None:
        """Wait until the page has the bus, and the scheduler on it."""
        wait(self._is_ready, seconds, lambda: f"the page is not ready\n{self.logs()}")

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            overview = self.api("fleet")["overview"]
            return bool(overview["connected"] and overview["scheduler_online"])
        return False

    def down(self, *options: str) -> None:
        """Stop and remove the containers; with `-v`, the volumes too."""
        profiles = ["--profile", "node", "--profile", "node-apart", "--profile", "tools"]
        self.compose(*profiles, "--profile", "demo", "down", "-t", "5", *options)

    def gleaner(self, *arguments: str, succeeds: bool = True) -> str:
        """Run the command line in its container; return what it printed, without its asides."""
        done = subprocess.run(
            [*self._command, "run", "--rm", "-T", "gleaner", *arguments],
            cwd=ROOT,
            env=os.environ | self.settings,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert not succeeds or done.returncode == 0, f"{arguments}:\n{done.stderr}"
        return done.stdout if succeeds else done.stderr

    def enroll(self, node: str) -> str:
        """Let a host in; return the text that it needs."""
        printed = self.gleaner("enroll", node)
        return printed.strip().removeprefix("GLEANER_ENROLMENT=").split()[0]

    def enroll_many(self, nodes: list[str]) -> dict[str, str]:
        """Let many hosts in at once; each waits for the broker to know it."""
        script = " & ".join(
            f"gleaner enroll {node} | sed 's/GLEANER_ENROLMENT=\\([^ ]*\\).*/{node} \\1/'"
            for node in nodes
        )
        printed = self.compose(
            "run", "--rm", "-T", "--entrypoint", "sh", "gleaner", "-c", f"{script} & wait"
        )
        lines = [line.split() for line in printed.splitlines() if " gleaner1." in line]
        return {line[0]: line[1] for line in lines}

    def api(self, path: str) -> Any:
        """Return what the API says."""
        return json.loads(self.page(f"/api/{path}"))

    def page(self, path: str = "/") -> str:
        """Return a page, over the published port."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}{path}", timeout=5) as it:
            return bytes(it.read()).decode()

    def stream(self, seconds: float = 10) -> Iterator[str]:
        """Yield the lines of the live stream."""
        url = f"http://127.0.0.1:{self.web_port}/events"
        with urllib.request.urlopen(url, timeout=seconds) as lines:
            for line in lines:
                yield line.decode().rstrip()

    def node(self, name: str) -> dict[str, Any] | None:
        """Return a node as the API shows it; None where it is not known."""
        with contextlib.suppress(OSError, ValueError):
            nodes = self.api("nodes")
            return next((one for one in nodes if one["node"] == name), None)
        return None

    def presence(self, name: str) -> str | None:
        """Return whether a node is online, as the API says."""
        node = self.node(name)
        return node["presence"] if node else None

    def logs(self, *services: str) -> str:
        """Return what services said."""
        return self.compose("logs", "--no-color", *services, succeeds=False)

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        labels = {"project": self.project, "service": service, "oneoff": "False"}
        filters = [f"--filter=label=com.docker.compose.{key}={labels[key]}" for key in labels]
        said = subprocess.run(["docker", "ps", "-aq", *filters], capture_output=True, check=True)
        (found,) = said.stdout.decode().split()
        return found

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what the engine knows of a service's container."""
        return docker_inspect(self.container(service))

    def crash(self, service: str) -> None:
        """Kill a container's first process from outside, which the engine takes for a crash."""
        os.kill(self.inspect(service)["State"]["Pid"], signal.SIGKILL)

    def health(self, service: str) -> str:
        """Return the state of a service's health check."""
        return str(self.inspect(service)["State"]["Health"]["Status"])

    def python(self, service: str, code: str) -> str:
        """Run Python in a service's container; return what it printed."""
        done = subprocess.run(
            ["docker", "exec", self.container(service), "python3", "-c", code],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def docker_inspect(container: str) -> dict[str, Any]:
    """Return what the engine knows of a container."""
    said = subprocess.run(["docker", "inspect", container], capture_output=True, check=True)
    (found,) = json.loads(said.stdout)
    return dict(found)


def wait(
    condition: Callable[[], object], seconds: float = 20, what: Callable[[], str] = str
) -> float:
    """Wait for something outside of this process; return how long it took."""
    started = time.monotonic()
    while not condition():
        took = time.monotonic() - started
        assert took < seconds, f"not within {seconds:g} s {what()}"
        time.sleep(0.1)
    return time.monotonic() - started
