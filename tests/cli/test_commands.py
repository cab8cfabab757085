"""The command itself: help, exit codes, one clear line for each mistake."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from gleaner import __version__
from gleaner.bus.connection import Connection
from gleaner.bus.interface import Delivery
from gleaner.bus.messages import Event, HistoryAnswer, HistoryQuery, Request, Response
from gleaner.bus.mqtt import MqttBus
from gleaner.cli.app import app, run
from tests.builders import NOW, until
from tests.mosquitto import Mosquitto
from tests.web.example import Example

GROUP = typer.main.get_command(app)
COMMANDS = sorted(GROUP.commands)  # type: ignore[attr-defined]


def gleaner(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    """Run a command; return status, output and errors."""
    monkeypatch.setattr(sys, "argv", ["gleaner", *arguments])
    with pytest.raises(SystemExit) as ended:
        sys.exit(run())  # type: ignore[func-returns-value]
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


class Said:
    """What the command said, for tests that run it many times."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        return gleaner(self._capsys, self._monkeypatch, *arguments)


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Said:
    monkeypatch.setenv("GLEANER_NODE__DATA_DIRECTORY", str(tmp_path / "data"))
    monkeypatch.setenv("GLEANER_BUS__URL", "mqtt://127.0.0.1:1")
    return Said(capsys, monkeypatch)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, command: Said) -> None:
    status, text, _ = command(name, "--help")

    assert status == 0
    assert len(text.split()) > 10


def test_the_version_is_told(command: Said) -> None:
    assert command("version") == (0, f"gleaner {__version__}\n", "")


def test_the_version_is_told_by_option_too(command: Said) -> None:
    assert command("--version") == (0, f"gleaner {__version__}\n", "")


def test_health_of_a_service_that_does_not_exist_is_a_mistake_of_usage(command: Said) -> None:
    status, _, errors = command("health", "nonsense")

    assert status == 2
    assert errors.startswith("there is no service nonsense; there are node, ")


def test_an_unknown_command_is_a_mistake_of_usage(command: Said) -> None:
    assert command("stauts")[0] == 2


def test_mistakes_in_the_configuration_are_named_together(command: Said, tmp_path: Path) -> None:
    file = tmp_path / "gleaner.toml"
    file.write_text('[log]\nlevel = "loud"\n[web]\nlisten = "x"\n[nod]\n')

    status, _, errors = command("status", "--config", str(file))

    assert status == 2
    assert [line.split(": ")[1] for line in errors.splitlines()] == [
        "nod",
        "log.level",
        "web.listen",
    ]


def test_a_missing_configuration_file_is_named(command: Said, tmp_path: Path) -> None:
    assert command("doctor", "--config", str(tmp_path / "x.toml")) == (
        2,
        "",
        f"{tmp_path / 'x.toml'}: there is no such file\n",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["why", "gpu1:0"],
        ["events"],
        ["pause"],
        ["free"],
        ["users"],
        ["export", "site", "/nowhere"],
    ],
)
def test_a_missing_broker_is_one_line_with_what_to_do(command: Said, arguments: list[str]) -> None:
    status, _, errors = command(*arguments)

    assert status == 1
    assert errors.startswith("no broker at mqtt://127.0.0.1:1: Connection refused; is Gleaner run")
    assert errors.count("\n") == 1


def test_a_duration_that_is_none_is_a_mistake_of_usage(command: Said) -> None:
    status, _, errors = command("pause", "--for", "soon")

    assert (status, errors.startswith("--for: 'soon' is no duration")) == (2, True)


@pytest.mark.parametrize("words", [("usage",), ("history", "gpu1"), ("events",)])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--since", "99999999d"), "--since: '99999999d' lies outside the years 1970 to 9998; "),
        (("--until", "0001-01-01"), "--until: '0001-01-01' lies outside the years 1970 to 9998; "),
        (("--since", ""), "--since: '' is no time; expected something like 7d, "),
        (("--since", "1d", "--until", "2d"), "--since: 1d is not before --until 2d"),
    ],
)
def test_a_time_that_cannot_be_meant_is_a_mistake_of_usage(
    command: Said, words: tuple[str, ...], options: tuple[str, ...], expected: str
) -> None:
    status, said, told = command(*words, *options)

    assert (status, said, told.count("\n")) == (2, "", 1)
    assert told.startswith(expected)


@pytest.mark.parametrize("words", [("usage",), ("history", "gpu1"), ("users",), ("free",)])
def test_two_formats_at_once_are_a_mistake_of_usage(command: Said, words: tuple[str, ...]) -> None:
    assert command(*words, "--json", "--csv") == (2, "", "--json or --csv, not both\n")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--follow", "--user", ""), "--follow can be narrowed by --node and --since only"),
        (("--follow", "--until", "1d"), "--follow can be narrowed by --node and --since only"),
        (("--kind", "samples"), "--kind: samples are no events; see `gleaner history`"),
    ],
)
def test_events_that_there_cannot_be_are_a_mistake_of_usage(
    command: Said, options: tuple[str, ...], expected: str
) -> None:
    assert command("events", *options) == (2, "", f"{expected}\n")


def test_more_points_than_there_are_is_a_mistake_of_usage(command: Said) -> None:
    assert command("history", "gpu1", "--points", "9" * 27)[0] == 2


def test_a_full_disk_is_told_whatever_was_to_be_written() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gleaner.cli", "version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )

    said = "standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_memory_that_is_none_is_a_mistake_of_usage(command: Said) -> None:
    status, _, errors = command("free", "--memory", "much")

    assert (status, errors.startswith("--memory: 'much' is no amount of memory")) == (2, True)


def test_a_service_that_was_never_there_is_not_healthy(command: Said) -> None:
    status, _, errors = command("health", "web")

    assert (status, "web has not had the bus yet" in errors) == (1, True)


def test_the_health_of_the_node_that_up_adds_is_told(command: Said, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "simulated" / "health"
    folder.mkdir(parents=True)
    (folder / "node").touch()

    assert command("health", "simulated") == (0, "simulated is well\n", "")


def test_an_import_goes_to_a_new_file_only(command: Said, tmp_path: Path) -> None:
    source, target = tmp_path / "gpu_mon.conf", tmp_path / "gleaner.toml"
    source.write_text("[gpu-all]\ngpus=ALL\nignore_programs=x\n")

    first = command("import", "gpu-mon", str(source), "-o", str(target))
    second = command("import", "gpu-mon", str(source), "-o", str(target))

    assert first == (0, "", "")
    assert second == (1, "", f"{target}: File exists\n")
    assert command("import", "gpu-mon", str(source))[1] == target.read_text()


def test_doctor_speaks_json(command: Said) -> None:
    status, text, _ = command("doctor", "--json")

    assert status in (0, 1)
    assert {finding["verdict"] for finding in json.loads(text)} <= {"ok", "warn", "fail"}


def test_help_costs_next_to_nothing() -> None:
    def cpu_seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = cpu_seconds()
    subprocess.run([sys.executable, "-m", "gleaner.cli", "--help"], check=True, capture_output=True)

    # 0.2 s of a core; with the libraries of the services it would be a second and more.
    assert cpu_seconds() - before < 0.8


def test_the_command_line_alone_loads_no_service_library() -> None:
    code = "import sys, gleaner.cli.app; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()

    heavy = {"paho", "pydantic", "sqlalchemy", "starlette", "nacl", "rich.table", "pynvml"}
    assert heavy & set(loaded) == set()


@pytest.mark.real
def test_a_service_takes_the_place_of_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gleaner.cli", "scheduler", "--help"],
        check=True,
        capture_output=True,
        text=True,
    )

    assert "usage: gleaner scheduler" in done.stdout


@pytest.mark.broker
class TestWithBroker:
    """The commands as processes, against a real broker with an example fleet."""

    @staticmethod
    async def gleaner(mosquitto: Mosquitto, *arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gleaner.cli",
            *arguments,
            env={"GLEANER_BUS__URL": mosquitto.url, "GLEANER_NODE__DATA_DIRECTORY": "/nowhere"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()

    @pytest.fixture
    async def fleet(self, mosquitto: Mosquitto) -> MqttBus:  # type: ignore[misc]
        mosquitto.forget()
        bus = MqttBus(Connection(url=mosquitto.url), "test", "fleet")
        running = asyncio.create_task(bus.run())
        await until(lambda: bus.connected)
        example = Example(NOW)
        for message in example.messages():
            bus.publish(message)
        beating = asyncio.create_task(self._beat(bus, example))
        yield bus  # type: ignore[misc]
        for task in (beating, running):
            task.cancel()
            await asyncio.wait([task])

    @staticmethod
    async def _beat(bus: MqttBus, example: Example) -> None:
        while True:
            for message in example.beats():
                bus.publish(message)
            await asyncio.sleep(0.1)

    async def test_status_shows_the_fleet(self, mosquitto: Mosquitto, fleet: MqttBus) -> None:
        status, text, errors = await self.gleaner(mosquitto, "status", "--json")

        nodes = {node["node"]: node["presence"] for node in json.loads(text)["nodes"]}
        assert (status, errors) == (0, "")
        assert nodes["atlas"] == "online"
        assert nodes["cygnus"] == "offline"

    async def test_in_a_pipe_each_gpu_is_one_line(
        self, mosquitto: Mosquitto, fleet: MqttBus
    ) -> None:
        _, text, _ = await self.gleaner(mosquitto, "status")

        (line,) = (line for line in text.splitlines() if line.startswith("atlas:0 "))
        assert "alice computes (pid 4711, python)" in line

    async def test_free_and_users_answer(self, mosquitto: Mosquitto, fleet: MqttBus) -> None:
        found = await self.gleaner(mosquitto, "free", "--model", "a100", "--csv")
        missing = await self.gleaner(mosquitto, "free", "-n", "5")
        people = await self.gleaner(mosquitto, "users", "--json")

        assert (found[0], len(found[1].splitlines())) == (0, 4)
        assert (missing[0], missing[1]) == (1, "")
        assert missing[2].startswith("no node has 5 free GPUs; 9 are free in all; not offered, bec")
        assert json.loads(people[1])["users"][0]["user"] == "alice"

    async def test_a_static_page_is_written(
        self, mosquitto: Mosquitto, fleet: MqttBus, tmp_path: Path
    ) -> None:
        done = await self.gleaner(mosquitto, "export", "site", str(tmp_path / "html"))
        in_the_way = await self.gleaner(mosquitto, "export", "site", "/dev/null")

        assert done == (0, "", "")
        assert "alice" in (tmp_path / "html" / "index.html").read_text()
        assert in_the_way == (1, "", "/dev/null: it is there and is no folder\n")

    async def test_why_answers(self, mosquitto: Mosquitto, fleet: MqttBus) -> None:
        status, text, _ = await self.gleaner(mosquitto, "why", "render")
        missing = await self.gleaner(mosquitto, "why", "gpu1:77")

        assert status == 0
        assert text.endswith("  - held: it failed 5 times in a row (exit 139)\n")
        assert missing[0] == 1
        assert missing[2].startswith("gpu1:77: there is no such GPU, node or workload")

    async def test_a_pause_is_asked_for_and_the_answer_told(
        self, mosquitto: Mosquitto, fleet: MqttBus
    ) -> None:
        heard: list[Request] = []

        def answer(delivery: Delivery) -> None:
            assert isinstance(delivery.message, Request)
            heard.append(delivery.message)
            fleet.publish(
                Response(
                    client=delivery.message.client,
                    id=delivery.message.id,
                    ok=delivery.message.node == "atlas",
                    text="as you wish" if delivery.message.node == "atlas" else "no such node",
                    at=NOW,
                )
            )

        fleet.subscribe(Request, answer)
        wished = await self.gleaner(
            mosquitto, "pause", "atlas", "fold", "--for", "2h", "--reason", "course"
        )
        refused = await self.gleaner(mosquitto, "drain", "nowhere")

        assert wished == (0, "as you wish\n", "")
        assert refused == (1, "", "no such node\n")
        assert (heard[0].node, heard[0].entry) == ("atlas", "fold")
        assert (heard[0].duration_seconds, heard[0].reason) == (7200, "course")

    async def test_a_name_that_was_never_recorded_is_told_with_what_comes_close(
        self, mosquitto: Mosquitto, fleet: MqttBus
    ) -> None:
        def answer(delivery: Delivery) -> None:
            query = delivery.message
            assert isinstance(query, HistoryQuery)
            name = query.user or query.gpu or query.node
            error = f"no {name} was ever recorded; did you mean 'alice'?"
            fleet.publish(
                HistoryAnswer(client=query.client, id=query.id, error=error, unknown="user")
            )

        fleet.subscribe(HistoryQuery, answer)
        for words in (
            ("events", "--user", "alcie"),
            ("usage", "--user", "alcie"),
            ("history", "GPU-alcie"),
        ):
            said = f"no {words[-1]} was ever recorded; did you mean 'alice'?\n"
            assert await self.gleaner(mosquitto, *words) == (1, "", said)

    async def test_events_are_followed_each_once(
        self, mosquitto: Mosquitto, fleet: MqttBus
    ) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gleaner.cli",
            "events",
            "--follow",
            "--json",
            env={"GLEANER_BUS__URL": mosquitto.url, "GLEANER_NODE__DATA_DIRECTORY": "/nowhere"},
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        saying = asyncio.create_task(self._say_again_and_again(fleet))
        try:
            lines = [
                json.loads(await asyncio.wait_for(process.stdout.readline(), 10)) for _ in range(3)
            ]
        finally:
            saying.cancel()
            process.terminate()
            await process.communicate()

        numbers = [line["sequence"] for line in lines]
        assert numbers == sorted(set(numbers))

    @staticmethod
    async def _say_again_and_again(bus: MqttBus) -> None:
        for sequence in range(1, 10_000):
            event = Event(
                node="n1",
                stream="s",
                sequence=sequence,
                oldest_sequence=1,
                kind="people",
                data={"reason": "nobody is active"},
                boot_id="b",
                at=NOW,
            )
            bus.publish(event)
            bus.publish(event)
            await asyncio.sleep(0.05)
