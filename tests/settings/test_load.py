"""Configuration: every mistake at once, each by the name under which it can be found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import Field

from gleaner.runtime import Fatal, connection
from gleaner.settings import (
    BusSettings,
    DatabaseSettings,
    NodeSettings,
    SchedulerSettings,
    ServiceSettings,
    SettingsError,
    WebSettings,
    WorkloadSettings,
    find_file,
    load,
)


class Everything(ServiceSettings):
    bus: BusSettings = BusSettings()
    node: NodeSettings = Field(default_factory=NodeSettings)
    workload: tuple[WorkloadSettings, ...] = ()
    scheduler: SchedulerSettings = SchedulerSettings()
    database: DatabaseSettings = DatabaseSettings()
    web: WebSettings = WebSettings()


class OnlyBus(ServiceSettings):
    bus: BusSettings = BusSettings()


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No configuration but the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GLEANER_CONFIG", raising=False)
    return tmp_path


def mistakes_of(text: str) -> list[str]:
    Path("gleaner.toml").write_text(text)
    with pytest.raises(SettingsError) as refused:
        load(Everything)
    return refused.value.mistakes


def test_without_a_file_everything_has_a_default() -> None:
    settings = load(Everything)

    assert settings.bus.url == "mqtt://127.0.0.1:1883"
    assert settings.scheduler.gpu_idle_seconds == 60
    assert settings.node.people.idle_seconds == 300


def test_five_mistakes_are_all_named_at_once() -> None:
    assert mistakes_of(
        """
        [bus]
        url = "http://broker"
        [node]
        idd = "n1"
        [node.gpu]
        check_seconds = 10
        [[workload]]
        name = "fold"
        [webb]
        listen = "x"
        """
    ) == [
        "gleaner.toml: webb: there is no such section; did you mean web?",
        (
            "gleaner.toml: bus.url: expected mqtt://host:port or mqtts://host:port "
            "(it is 'http://broker')"
        ),
        "gleaner.toml: node.gpu.check_seconds: must be less than or equal to 4 (it is 10)",
        "gleaner.toml: node.idd: there is no such key; did you mean id?",
        "gleaner.toml: workload.fold.command: is missing",
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("bus = 3", "bus: is a section: write [bus] above its keys (it is 3)"),
        ("[node]\ngpu = 3", "node.gpu: is a section: write [node.gpu] above its keys (it is 3)"),
        (
            '[[workload]]\nname = "a"\ncommand = "x"\ngpus = "some"',
            "workload.a.gpus: must be 'each' or 'all' or a list (it is 'some')",
        ),
        (
            '[[workload]]\nname = "a"\ncommand = "  "',
            "workload.a.command: no program in it (it is '  ')",
        ),
        ('[[workload]]\ncommand = "x"', "workload.0.name: is missing"),
        (
            '[node]\nid = "Node 1"',
            "node.id: must match pattern '^[a-z0-9_-]{1,63}$' (it is 'Node 1')",
        ),
        (
            "[node.gpu]\nbusy_when = ['utilization >= 5']",
            (
                "node.gpu.busy_when: 'utilization >= 5' is not one of compute_process, "
                "graphics_process, device_open, `utilization_percent >= N` or "
                "`memory_used_bytes >= N`"
            ),
        ),
        (
            '[database]\nurl = "mysql://x"',
            (
                "database.url: expected sqlite:///path or postgresql://user@host/name "
                "(it is 'mysql://x')"
            ),
        ),
        (
            '[web]\nlisten = "8080"',
            "web.listen: expected address:port, like 127.0.0.1:8080 (it is '8080')",
        ),
    ],
)
def test_a_mistake_is_said_in_words(text: str, mistake: str) -> None:
    assert mistakes_of(text) == [f"gleaner.toml: {mistake}"]


def test_mistakes_in_workloads_of_one_name_are_told_apart() -> None:
    assert mistakes_of('[[workload]]\nname = "a"\n[[workload]]\nname = "a"\n') == [
        "gleaner.toml: workload.0.command: is missing",
        "gleaner.toml: workload.1.command: is missing",
    ]


def test_a_password_is_never_repeated() -> None:
    (mistake,) = mistakes_of("[bus]\npassword = 12345")

    assert "bus.password" in mistake
    assert "12345" not in mistake


def test_a_file_that_is_no_toml_is_named_with_the_line() -> None:
    (mistake,) = mistakes_of("[bus]\nurl = \n")

    assert mistake.startswith("gleaner.toml: Invalid value (at line 2")


def test_a_service_does_not_mind_mistakes_in_the_sections_of_others() -> None:
    Path("gleaner.toml").write_text('[bus]\nuser = "u"\n[web]\nlisten = 3\n')

    assert load(OnlyBus).bus.user == "u"


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("gleaner.toml").write_text('[bus]\nurl = "mqtt://file"\nuser = "file"\n')
    monkeypatch.setenv("GLEANER_BUS__URL", "mqtt://environment")
    monkeypatch.setenv("GLEANER_NODE__PEOPLE__IDLE_SECONDS", "20")

    settings = load(Everything)

    assert (settings.bus.url, settings.bus.user) == ("mqtt://environment", "file")
    assert settings.node.people.idle_seconds == 20


@pytest.mark.parametrize("text", ["user1,user2", " user1 , user2,", '["user1", "user2"]'])
def test_a_list_in_the_environment_is_words_with_commas(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLEANER_NODE__PEOPLE__WHITELIST", text)

    assert load(Everything).node.people.whitelist == ("user1", "user2")


def test_mistakes_in_the_environment_are_named_by_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GLEANER_NODE__GPU__CHECK_SECONDS", "soon")
    monkeypatch.setenv("GLEANER_NODE__GPU__CHECK_SECNDS", "1")
    monkeypatch.setenv("GLEANER_NODE__GPPU__SOURCE", "nvml")
    monkeypatch.setenv("GLEANER_NOD__ID", "n1")

    with pytest.raises(SettingsError) as refused:
        load(Everything)

    assert sorted(refused.value.mistakes) == [
        "GLEANER_NODE__GPPU__SOURCE: there is no such key; did you mean gpu?",
        "GLEANER_NODE__GPU__CHECK_SECNDS: there is no such key; did you mean check_seconds?",
        (
            "GLEANER_NODE__GPU__CHECK_SECONDS: must be a valid number, "
            "unable to parse string as a number (it is 'soon')"
        ),
        "GLEANER_NOD__ID: there is no section nod; did you mean node?",
    ]


def test_variables_that_are_no_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLEANER_RUN_TOKEN", "secret")

    load(Everything)


def test_files_are_looked_for_in_order(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_file() in (None, Path("/etc/gleaner/gleaner.toml"))
    user = nowhere / "home" / "gleaner" / "gleaner.toml"
    user.parent.mkdir(parents=True)
    user.touch()
    assert find_file() == user
    Path("gleaner.toml").touch()
    assert find_file() == Path("gleaner.toml")
    (nowhere / "named.toml").touch()
    monkeypatch.setenv("GLEANER_CONFIG", str(nowhere / "named.toml"))
    assert find_file() == nowhere / "named.toml"
    assert find_file(user) == user


@pytest.mark.real
def test_a_file_that_another_user_left_here_is_used_only_when_asked_for() -> None:
    file = Path("gleaner.toml")
    file.touch()
    os.chown(file, 65534, 65534)

    with pytest.raises(SettingsError, match=r"gleaner\.toml belongs to another user"):
        find_file()
    assert find_file(file) == file


def test_a_file_that_was_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLEANER_CONFIG", "missing.toml")

    with pytest.raises(SettingsError, match=r"missing\.toml: there is no such file"):
        load(Everything)


def test_the_password_comes_from_the_first_line_of_its_file(nowhere: Path) -> None:
    file = nowhere / "password"
    file.write_text("secret \nsecond line\n")

    assert connection(BusSettings(user="u", password_file=file)).password == "secret "


@pytest.mark.parametrize("content", [None, b"", b"\nsecret", b"\xff\xfe"])
def test_a_password_file_that_is_of_no_use_is_named(nowhere: Path, content: bytes | None) -> None:
    file = nowhere / "password"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(Fatal, match=r"bus\.password_file .*/password"):
        connection(BusSettings(password_file=file))


def test_every_setting_says_what_it_is_for() -> None:
    def check(model: type, path: str) -> None:
        for name, field in model.model_fields.items():  # type: ignore[attr-defined]
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                check(inner, f"{path}.{name}")
            else:
                assert field.description, f"{path}.{name} has no description"

    for name, field in Everything.model_fields.items():
        if name != "workload":
            check(field.annotation, name)  # type: ignore[arg-type]
    check(WorkloadSettings, "workload")


def test_a_driver_may_not_take_so_long_that_every_run_would_leave(tmp_path: Path) -> None:
    file = tmp_path / "gleaner.toml"
    file.write_text("[node.gpu]\ndeadline_seconds = 10\n")

    with pytest.raises(SettingsError) as error:
        load(Everything, file)

    (mistake,) = error.value.mistakes
    assert mistake == (
        f"{file}: node.gpu.deadline_seconds: a driver may take 3.5 s at most: "
        "after 5 s without a check every run leaves (it is 10)"
    )


@pytest.mark.parametrize(("source", "mistakes"), [("auto", 1), ("nvml", 1), ("simulated", 0)])
def test_a_driver_that_hangs_is_noticed_in_time_however_seldom_it_is_asked(
    tmp_path: Path, source: str, mistakes: int
) -> None:
    file = tmp_path / "gleaner.toml"
    file.write_text(f'[node.gpu]\nsource = "{source}"\ncheck_seconds = 3\n')
    said: list[str] = []

    try:
        load(Everything, file)
    except SettingsError as error:
        said = error.mistakes

    expected = (
        f"{file}: node.gpu: check_seconds 3 and deadline_seconds 3 may be 4.5 s together, because "
        "a driver that hangs must be noticed within 5 s: set deadline_seconds to 1.5 or less, or "
        "check more often"
    )
    assert said == [expected] * mistakes
    file.write_text("[node.gpu]\ncheck_seconds = 3\ndeadline_seconds = 1.5\n")
    assert load(Everything, file).node.gpu.deadline_seconds == 1.5
