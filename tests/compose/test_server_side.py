"""The server side as it is shipped, judged from outside: a story in the order it stands here."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as paho
import pytest
from paho.mqtt.reasoncodes import ReasonCode

from gleaner.settings.enrolment import Enrolment, decode
from tests.compose.deployment import ROOT, SERVICES, Deployment, wait
from tests.compose.hosts import Host

pytestmark = [pytest.mark.compose, pytest.mark.timeout(120, func_only=True)]

HOSTS = 20


@pytest.fixture(scope="module")
def host(deployment: Deployment, folder: Path) -> Iterator[Host]:
    """A host that joined over the published port, with a filler on its only GPU."""
    with Host(folder / "gpu1", deployment.enroll("gpu1")) as one:
        wait(lambda: run_of(deployment, "gpu1"), 40, one.said)
        deployment.gleaner("drain", "gpu1", "--reason", "to be kept")
        yield one


def run_of(deployment: Deployment, node: str) -> str | None:
    """Return the run that runs on the only GPU of a node."""
    found = deployment.node(node)
    return found["gpus"][0]["run"] if found and found["gpus"] else None


def drain_of(deployment: Deployment, node: str) -> str | None:
    """Return why a node is drained, if it is."""
    found = deployment.node(node)
    return found["drain"]["reason"] if found and found["drain"] else None


def recorded_events(deployment: Deployment, node: str) -> int:
    """Return how many events of a node the API tells; 0 while it cannot."""
    with contextlib.suppress(OSError):
        return len(deployment.api(f"events?node={node}&limit=1000")["rows"])
    return 0


def test_up_alone_gives_page_api_and_stream(deployment: Deployment) -> None:
    assert "<h1" in deployment.page()
    assert isinstance(deployment.api("nodes"), list)
    assert any(line.startswith("event:") for line in deployment.stream())


def test_nobody_is_root_and_nothing_but_the_volume_is_written(deployment: Deployment) -> None:
    for service in SERVICES:
        found = deployment.inspect(service)
        assert found["Config"]["User"] == "gleaner", service
        assert found["HostConfig"]["ReadonlyRootfs"], service
        assert found["HostConfig"]["CapDrop"] == ["ALL"], service
        writable = [mount["Destination"] for mount in found["Mounts"] if mount["RW"]]
        assert writable == ["/var/lib/gleaner"], service


def test_no_secret_is_in_an_image_or_a_variable(deployment: Deployment) -> None:
    for service in SERVICES:
        text = json.dumps(deployment.inspect(service)["Config"]).lower()
        assert "password" not in text, service
        assert "gleaner1." not in text, service


def test_a_host_joins_over_the_published_port(deployment: Deployment, host: Host) -> None:
    assert deployment.presence("gpu1") == "online"
    assert "gpu1" in deployment.page()


def test_health_checks_see_what_works(deployment: Deployment) -> None:
    wait(lambda: all(deployment.health(name) == "healthy" for name in SERVICES), 40)


def test_a_host_that_leaves_is_offline_at_once(deployment: Deployment, folder: Path) -> None:
    with Host(folder / "gpu2", deployment.enroll("gpu2")) as two:
        wait(lambda: deployment.presence("gpu2") == "online", 20, two.said)
        two.stop()
        wait(lambda: deployment.presence("gpu2") == "offline", 5)
        two.start()
        wait(lambda: deployment.presence("gpu2") == "online", 20, two.said)
        two.stop(signal.SIGKILL)
        wait(lambda: deployment.presence("gpu2") == "offline", 5)


@pytest.mark.parametrize("service", ["web", "recorder", "scheduler", "broker"])
def test_a_service_that_is_killed_comes_back(
    deployment: Deployment, host: Host, service: str
) -> None:
    run, container = run_of(deployment, "gpu1"), deployment.container(service)
    restarts = deployment.inspect(service)["RestartCount"]

    deployment.crash(service)

    wait(lambda: deployment.inspect(service)["RestartCount"] > restarts)
    wait(lambda: deployment.health(service) == "healthy", 30)
    deployment.wait_until_ready()
    wait(lambda: deployment.presence("gpu1") == "online", 30)
    wait(lambda: drain_of(deployment, "gpu1") == "to be kept")
    assert deployment.container(service) == container
    assert run_of(deployment, "gpu1") == run
    wait(lambda: recorded_events(deployment, "gpu1"))


def test_a_service_that_lost_the_bus_is_not_healthy(deployment: Deployment) -> None:
    deployment.compose("stop", "broker")
    wait(lambda: deployment.health("scheduler") == "unhealthy", 60)
    assert not deployment.api("fleet")["overview"]["connected"]
    deployment.compose("start", "broker")
    deployment.wait_until_ready()
    wait(lambda: deployment.health("scheduler") == "healthy", 40)


def test_a_restart_of_the_broker_loses_nothing_of_twenty_hosts(
    deployment: Deployment, folder: Path
) -> None:
    many = folder / "many"
    names = [f"many{number}" for number in range(HOSTS)]
    for name, text in deployment.enroll_many(names).items():
        (many / name).mkdir(parents=True)
        (many / name / "enrolment").write_text(text)
    hosts = subprocess.Popen(
        [sys.executable, "-m", "tests.compose.many_hosts", str(many)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        wait(lambda: sum(deployment.presence(name) == "online" for name in names) == HOSTS, 60)
        wait(lambda: len(recorded(deployment)) == HOSTS, 40)
        before = recorded(deployment)

        deployment.compose("restart", "-t", "5", "broker")

        # Each GPU changes hands every second: ten more are from during and after the restart.
        wait(lambda: goes_on(before, recorded(deployment), by=10), 60)
        assert all(gaps == 0 for _, gaps in recorded(deployment).values())
    finally:
        hosts.terminate()
        hosts.wait(30)


def recorded(deployment: Deployment) -> dict[str, tuple[int, int]]:
    """Return, by the stream of each of them, the last number recorded, and how many are missing."""
    code = (
        "import json, sqlite3\n"
        "found = sqlite3.connect('/var/lib/gleaner/recorder/gleaner.sqlite').execute(\n"
        "    'SELECT stream, watermark, gaps FROM stream JOIN name ON name.id = stream.node'\n"
        "    \" WHERE name.text LIKE 'many%'\")\n"
        "print(json.dumps([list(row) for row in found]))"
    )
    rows = json.loads(deployment.python("recorder", code))
    return {stream: (watermark, gaps) for stream, watermark, gaps in rows}


def goes_on(before: dict[str, tuple[int, int]], now: dict[str, tuple[int, int]], by: int) -> bool:
    """Whether that many more events of each of the hosts are recorded."""
    further = [stream for stream in before if now[stream][0] >= before[stream][0] + by]
    return len(further) == HOSTS


def test_the_demonstration_needs_nothing_else(deployment: Deployment) -> None:
    deployment.compose("--profile", "demo", "up", "-d")

    wait(lambda: deployment.presence("demo") == "online", 30)
    assert (deployment.node("demo") or {})["simulated"]
    wait(lambda: run_of(deployment, "demo"), 40)
    # Once more it stays enrolled.
    deployment.compose("--profile", "demo", "up", "-d")
    deployment.compose("--profile", "demo", "rm", "-fs", "demo", "demo-setup")


def test_a_wrong_password_and_a_foreign_topic_are_refused(deployment: Deployment) -> None:
    given = decode(deployment.enroll("gpu3"))
    own, foreign = (f"gleaner/v1/node/{node}/beat" for node in ("gpu3", "gpu1"))

    assert answer(given, given.password, own) == "Success"
    assert answer(given, "x" + given.password, own) == "Not authorized"
    assert answer(given, given.password, foreign) == "Not authorized"


def answer(given: Enrolment, password: str, topic: str) -> str:
    """Connect and publish; return the first refusal, or that there was none."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, given.user, protocol=paho.MQTTv5)
    client.username_pw_set(given.user, password)
    said: list[str] = []

    def on_connect(_: object, __: object, ___: object, reason: ReasonCode, ____: object) -> None:
        if reason.is_failure:
            said.append(str(reason))
        else:
            client.publish(topic, b"{}", qos=1)

    def on_publish(_: object, __: object, ___: int, reason: ReasonCode, ____: object) -> None:
        said.append("Success" if not reason.is_failure else str(reason))

    client.on_connect, client.on_publish = on_connect, on_publish
    where = urlsplit(given.url)
    client.connect(str(where.hostname), where.port or 0)
    client.loop_start()
    wait(lambda: said, 10)
    client.disconnect()
    client.loop_stop()
    return said[0]


def test_down_and_up_keep_everything(deployment: Deployment, host: Host) -> None:
    events = recorded_events(deployment, "gpu1")

    deployment.down()
    deployment.up()

    wait(lambda: deployment.presence("gpu1") == "online", 40, host.said)
    wait(lambda: drain_of(deployment, "gpu1") == "to be kept")
    wait(lambda: recorded_events(deployment, "gpu1") >= events > 0)


def test_a_backup_brings_everything_back(deployment: Deployment, host: Host) -> None:
    backup, restore = commands("Back up"), commands("Restore")
    assert backup
    assert restore
    events = recorded_events(deployment, "gpu1")
    here = deployment.directory / "backup"
    here.mkdir()

    run_commands(deployment, backup, here)
    deployment.down("-v")
    run_commands(deployment, restore, here)

    deployment.wait_until_ready()
    wait(lambda: deployment.presence("gpu1") == "online", 40, host.said)
    wait(lambda: recorded_events(deployment, "gpu1") >= events > 0)


def commands(heading: str) -> list[str]:
    """Return the commands that the manual names below a heading."""
    text = (ROOT / "docs" / "operations" / "compose.md").read_text()
    section = re.split(rf"^#+ {heading}$", text, flags=re.MULTILINE)[1]
    return re.findall(
        r"^    (.+)$", re.split(r"^#+ ", section, flags=re.MULTILINE)[0], re.MULTILINE
    )


def run_commands(deployment: Deployment, lines: list[str], here: Path) -> None:
    """Run commands of the manual; the project has a name and settings of its own."""
    for line in lines:
        words = line.replace("docker compose", "COMPOSE").replace("$PWD", str(here))
        shell = f'COMPOSE() {{ {deployment.shell} "$@"; }}; {words}'
        subprocess.run(
            ["bash", "-euc", shell],
            cwd=here,
            env=os.environ | deployment.settings,
            check=True,
            stdin=subprocess.DEVNULL,
        )


def test_the_page_takes_changes_with_the_token_only(deployment: Deployment, host: Host) -> None:
    token = deployment.python("web", "print(open('account/control.token').read())").strip()

    assert ask(deployment, {}) == 401
    assert ask(deployment, {"authorization": f"Bearer {token}"}) == 200
    wait(lambda: drain_of(deployment, "gpu1") is None)


def ask(deployment: Deployment, headers: dict[str, str]) -> int:
    """Ask to end a drain as the page does; return the status."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{deployment.web_port}/control",
        b"kind=undrain&node=gpu1",
        {"content-type": "application/x-www-form-urlencoded"} | headers,
        method="POST",
    )
    try:
        with urllib.request.urlopen(asked, timeout=10) as answered:
            return int(answered.status)
    except urllib.error.HTTPError as error:
        return error.code
