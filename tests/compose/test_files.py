"""The files of the deployment agree with each other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGES = ("build", "cli", "node", "recorder", "scheduler", "web")
PIN = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)


def test_every_setting_of_compose_is_explained() -> None:
    read = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    explained = set(
        re.findall(r"^# ?(GLEANER_\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    )

    assert read == explained


def test_defaults_are_explained_as_they_are() -> None:
    compose = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", (ROOT / "docker-compose.yml").read_text()))
    example = dict(
        re.findall(r"^# ?(GLEANER_\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    )

    assert {name: compose[name] for name in compose if compose[name]} == {
        name: text for name, text in example.items() if compose[name]
    }


def test_images_carry_the_versions_that_are_tested() -> None:
    tested = dict(PIN.findall((ROOT / "requirements" / "run.txt").read_text()))

    for image in IMAGES:
        pins = dict(PIN.findall((ROOT / "requirements" / f"{image}.txt").read_text()))
        assert pins, image
        assert pins.items() <= tested.items(), image
