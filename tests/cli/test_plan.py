"""What `gleaner up` decides before it starts anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gleaner.bus.access import Account
from gleaner.cli.machine import demo, plan
from gleaner.cli.machine.broker import Address, Identity, find_mosquitto
from gleaner.cli.machine.child import backoff_seconds
from gleaner.cli.machine.mosquitto import password_line
from gleaner.cli.machine.plan import Choice, Node
from gleaner.cli.settings import Settings
from gleaner.settings import BusSettings, NodeSettings, WorkloadSettings, load
from services.collector.simulated.script import read_script


def choose(url: str, *, user: str | None = None, answered: bool = False) -> Choice:
    return plan.choose_broker(BusSettings(url=url, user=user), is_answered=answered)


def identity(name: str) -> Identity:
    return Identity(user=f"{name}.secret", password="p", password_file=Path(f"/{name}"))


def test_our_own_broker_starts_where_nobody_answers() -> None:
    assert choose("mqtt://127.0.0.1:1883") == Choice(own=True)


def test_a_broker_that_answers_is_used_with_an_account_only() -> None:
    assert choose("mqtt://127.0.0.1:1883", user="n1", answered=True) == Choice(own=False)
    moved = choose("mqtt://127.0.0.1:1883", answered=True)
    assert moved.own
    assert moved.moved is not None
    assert "127.0.0.1:1883 is taken" in moved.moved


def test_a_broker_elsewhere_is_used_even_when_it_is_away() -> None:
    assert choose("mqtts://broker.example:8883", user="n1") == Choice(own=False)


def test_a_broker_elsewhere_without_account_is_not_ours_to_use() -> None:
    moved = choose("mqtt://broker.example:1883")

    assert moved.own
    assert moved.moved == "no account is configured for the broker at broker.example:1883"


def test_our_own_broker_does_not_pretend_to_speak_tls() -> None:
    assert choose("mqtts://127.0.0.1:8883").moved == "our own broker speaks no TLS"


def test_each_service_has_an_account_and_each_simulated_node_one_of_its_own() -> None:
    nodes = [
        Node(id="n1", config=None, variables={}),
        Node(id="sim", config=None, variables={}, count=2),
    ]
    names = ["n1", "sim", *plan.SERVICES]

    accounts = plan.accounts(nodes, {name: identity(name) for name in names})

    assert set(accounts) == {
        Account(user="n1.secret", role="node", node="n1"),
        Account(user="sim.secret-1", role="node", node="sim-1"),
        Account(user="sim.secret-2", role="node", node="sim-2"),
        Account(user="scheduler.secret", role="scheduler"),
        Account(user="recorder.secret", role="recorder"),
        Account(user="web.secret", role="web"),
    }


def test_a_node_obeys_our_scheduler_beside_those_it_is_told() -> None:
    settings = Settings(node=NodeSettings(id="n1", scheduler_keys=("a:1",)))

    variables = plan.scheduler_keys(settings, "b:2")

    assert json.loads(variables["GLEANER_NODE__SCHEDULER_KEYS"]) == ["a:1", "b:2"]


def test_a_node_may_take_as_long_as_its_most_patient_workload() -> None:
    settings = Settings(workload=(WorkloadSettings(name="w", command="x", grace_seconds=60),))

    assert plan.node_grace_seconds(settings) == 70


def test_another_nodes_variables_are_kept_from_the_simulated_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GLEANER_NODE__ID", "gpu1")
    monkeypatch.setenv("GLEANER_LOG__LEVEL", "debug")

    program = plan.service(
        "simulated", module="node", config=None, variables={}, without=("GLEANER_NODE__",)
    )

    assert "GLEANER_NODE__ID" not in program.environment
    assert program.environment["GLEANER_LOG__LEVEL"] == "debug"


def test_the_simulated_nodes_configuration_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "gleaner.toml"
    script = tmp_path / "script.toml"
    file.write_text(demo.configuration(tmp_path / 'a "quoted" folder', script))

    settings = load(Settings, file)

    assert settings.node.gpu.source == "simulated"
    assert settings.node.data_directory == tmp_path / 'a "quoted" folder'
    assert settings.node.simulated.script == script


def test_the_first_look_shows_an_eviction_and_a_held_gpu_within_a_minute(tmp_path: Path) -> None:
    file = tmp_path / "script.toml"
    file.write_text(demo.SCRIPT)

    script = read_script(file, gpus=4)

    starts = [work.at for work in script.work]
    assert any(demo.GPU_IDLE_SECONDS < at < 40 for at in starts)
    assert any(work.at == 0 and work.utilization_percent == 0 for work in script.work)


def test_a_device_file_is_a_sign_of_an_nvidia_gpu_and_the_control_device_is_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "nvidiactl").touch()
    had = demo.has_nvidia(tmp_path)
    (tmp_path / "nvidia0").touch()

    assert (had, demo.has_nvidia(tmp_path)) == (demo.has_nvidia(Path("/nowhere")), True)


def test_waiting_grows_and_stays_within_bounds() -> None:
    assert [backoff_seconds(failures) for failures in (0, 1, 2)] == [0.2, 0.4, 0.8]
    assert backoff_seconds(1000) == 30


def test_an_ipv6_address_has_brackets() -> None:
    assert Address("::1", 1883).url == "mqtt://[::1]:1883"
    assert str(Address("127.0.0.1", 80)) == "127.0.0.1:80"


def test_a_password_line_has_mosquittos_form() -> None:
    line = password_line("user1", "secret", bytes(range(12)))

    assert line.startswith("user1:$7$101$AAECAwQFBgcICQoL$")
    assert len(line.rpartition("$")[2]) == 88


@pytest.mark.broker
def test_mosquitto_is_found() -> None:
    assert find_mosquitto() is not None
