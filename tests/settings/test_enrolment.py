"""An enrolment: one text that brings what is not set, and says clearly when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from gleaner.cli.connect import connected, enrolled_node
from gleaner.cli.machine.system import prepare
from gleaner.cli.settings import Settings as Everything
from gleaner.runtime import Fatal, keep_enrolment
from gleaner.settings import BusSettings, SettingsError, load
from gleaner.settings.enrolment import Enrolment, decode, encode
from services.collector.settings import CollectorSettings
from services.node.settings import Settings
from services.runner.settings import RunnerSettings
from services.scheduler.settings import SchedulerServiceSettings

GPU7 = Enrolment(
    url="mqtts://server:8883",
    user="gpu7.1a2b",
    password="secret",
    node="gpu7",
    scheduler_keys=("k:1",),
    ca="PEM",
)
SERVICE = Enrolment(url="mqtt://broker:1883", user="scheduler.1a2b", password="secret")


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No configuration but the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GLEANER_NODE__DATA_DIRECTORY", str(tmp_path / "data"))
    return tmp_path


def mistakes() -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load(Settings)
    return refused.value.mistakes


def test_an_enrolment_brings_what_a_node_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLEANER_BUS__ENROLMENT", encode(GPU7))

    settings = load(Settings)

    assert (settings.bus.url, settings.bus.user) == (GPU7.url, GPU7.user)
    assert (settings.bus.password, settings.bus.ca) == (GPU7.password, GPU7.ca)
    assert (settings.node.id, settings.node.scheduler_keys) == ("gpu7", ("k:1",))


def test_collector_and_runner_apart_have_accounts_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GLEANER_BUS__ENROLMENT", encode(GPU7))

    assert load(CollectorSettings).bus.user == "gpu7.1a2b-collector"
    assert load(RunnerSettings).bus.user == "gpu7.1a2b-runner"


def test_what_is_set_wins_over_the_enrolment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLEANER_BUS__ENROLMENT", encode(GPU7))
    monkeypatch.setenv("GLEANER_BUS__URL", "mqtt://proxy")
    Path("gleaner.toml").write_text('[node]\nid = "gpu7"\nscheduler_keys = ["k:2"]\n')

    settings = load(Settings)

    assert (settings.bus.url, settings.bus.user) == ("mqtt://proxy", GPU7.user)
    assert settings.node.scheduler_keys == ("k:2",)


def test_an_enrolment_may_lie_in_a_file_with_lines_broken_by_a_terminal(nowhere: Path) -> None:
    text = encode(GPU7)
    (nowhere / "joined").write_text(f"{text[:70]}\n{text[70:]}\n")
    Path("gleaner.toml").write_text(f'[bus]\nenrolment_file = "{nowhere}/joined"\n')

    assert load(Settings).node.id == "gpu7"


def test_the_enrolment_that_was_kept_is_used_again(nowhere: Path) -> None:
    (nowhere / "data" / "account").mkdir(parents=True)
    (nowhere / "data" / "account" / "enrolment").write_text(encode(SERVICE))

    assert load(SchedulerServiceSettings).bus.user == "scheduler.1a2b"


def test_the_enrolment_that_was_kept_is_not_for_a_broker_that_is_set(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nowhere / "data" / "account").mkdir(parents=True)
    (nowhere / "data" / "account" / "enrolment").write_text(encode(SERVICE))
    monkeypatch.setenv("GLEANER_BUS__URL", "mqtt://other")

    assert load(SchedulerServiceSettings).bus.user is None


def test_an_empty_variable_is_no_enrolment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLEANER_BUS__ENROLMENT", "")

    assert load(Settings).bus.user is None


def test_another_node_id_than_the_enrolled_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GLEANER_BUS__ENROLMENT", encode(GPU7))
    Path("gleaner.toml").write_text('[node]\nid = "gpu8"\n')

    assert mistakes() == [
        (
            "gleaner.toml: node.id: is 'gpu8', but this host is enrolled as 'gpu7' "
            "(GLEANER_BUS__ENROLMENT): leave it out, or enroll 'gpu8'"
        )
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("secret", "is no text of `gleaner enroll` (they begin with `gleaner1.`)"),
        (encode(GPU7)[:-20], "is damaged; copy the whole text that `gleaner enroll` printed"),
        (
            encode(GPU7).replace("gleaner1", "gleaner2"),
            "is of another version of Gleaner; make a new one with `gleaner enroll`",
        ),
    ],
)
def test_a_text_that_is_none_is_one_line_without_the_text(
    text: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLEANER_BUS__ENROLMENT", text)

    assert mistakes() == [f"GLEANER_BUS__ENROLMENT: {what}"]


def test_a_file_that_cannot_be_read_is_one_line() -> None:
    Path("gleaner.toml").write_text('[bus]\nenrolment_file = "none"\n')

    assert mistakes() == ["gleaner.toml: bus.enrolment_file: none: No such file or directory"]


def test_an_enrolment_of_the_wrong_type_is_not_repeated() -> None:
    Path("gleaner.toml").write_text("[bus]\nenrolment = 123456\n")

    (mistake,) = mistakes()

    assert "bus.enrolment" in mistake
    assert "123456" not in mistake


def test_a_text_says_what_it_was_made_of() -> None:
    assert decode(encode(GPU7)) == GPU7
    assert decode(encode(SERVICE)) == SERVICE


def test_what_a_host_was_given_once_is_kept_for_it_alone(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLEANER_BUS__ENROLMENT", encode(GPU7))
    settings = load(Settings)

    keep_enrolment(settings.bus, settings.node.data_directory)
    monkeypatch.delenv("GLEANER_BUS__ENROLMENT")

    kept = nowhere / "data" / "account" / "enrolment"
    assert kept.stat().st_mode & 0o077 == kept.parent.stat().st_mode & 0o077 == 0
    assert load(Settings).bus == settings.bus.model_copy(update={"enrolment": None})


def test_what_cannot_be_kept_is_told(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (nowhere / "data").write_text("a file")

    keep_enrolment(BusSettings(enrolment=encode(GPU7)), nowhere / "data")

    assert "it is needed at the next start too" in caplog.text
    assert encode(GPU7) not in caplog.text


async def test_the_command_line_does_not_speak_as_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker would take it for the node, and throw that off."""
    monkeypatch.setenv("GLEANER_BUS__ENROLMENT", encode(GPU7))
    settings = load(Everything)

    with pytest.raises(Fatal, match="this host is enrolled as the node gpu7, which speaks for"):
        async with connected(settings):
            pass
    with pytest.raises(Fatal, match="`gleaner node` is all that runs here"):
        prepare(settings, None)
    monkeypatch.setenv("GLEANER_BUS__USER", "me")
    assert enrolled_node(load(Everything)) is None
