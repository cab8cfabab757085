"""Signatures: only what a known key signed, byte for byte, is obeyed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gleaner.bus.messages import BeatBody, DesiredBody
from gleaner.bus.signature import (
    SignatureRefused,
    Signer,
    Verifier,
    load_or_make_key,
    parse_public_key,
)
from tests.builders import NOW

SIGNER = Signer(b"1" * 32)
OTHER = Signer(b"2" * 32)
BODY = BeatBody(term=3, generation=1, sequence=9, at=NOW)


def test_what_a_known_key_signed_is_read() -> None:
    verifier = Verifier([OTHER.public, SIGNER.public])

    assert verifier.verify(BeatBody, **SIGNER.sign(BODY)) == BODY


def test_a_key_that_is_not_pinned_is_refused() -> None:
    with pytest.raises(SignatureRefused, match=f"key {SIGNER.key_id} is not one"):
        Verifier([OTHER.public]).verify(BeatBody, **SIGNER.sign(BODY))


def test_no_key_at_all_refuses_everything() -> None:
    with pytest.raises(SignatureRefused):
        Verifier([]).verify(BeatBody, **SIGNER.sign(BODY))


def test_another_key_cannot_pose_as_a_known_one() -> None:
    forged = OTHER.sign(BODY) | {"key": SIGNER.key_id}

    with pytest.raises(SignatureRefused, match="not that of key"):
        Verifier([SIGNER.public, OTHER.public]).verify(BeatBody, **forged)


@given(st.integers(0, 10_000), st.characters(min_codepoint=32, max_codepoint=126))
def test_not_one_byte_of_the_body_can_be_changed(place: int, character: str) -> None:
    signed = SIGNER.sign(BODY)
    place %= len(signed["body"])
    changed = signed["body"][:place] + character + signed["body"][place + 1 :]
    if changed == signed["body"]:
        return

    with pytest.raises(SignatureRefused):
        Verifier([SIGNER.public]).verify(BeatBody, **signed | {"body": changed})


@given(st.text(max_size=100))
def test_no_text_is_a_signature(signature: str) -> None:
    with pytest.raises(SignatureRefused):
        Verifier([SIGNER.public]).verify(BeatBody, **SIGNER.sign(BODY) | {"signature": signature})


def test_white_space_counts_too() -> None:
    signed = SIGNER.sign(BODY)

    with pytest.raises(SignatureRefused):
        Verifier([SIGNER.public]).verify(BeatBody, **signed | {"body": signed["body"] + " "})


def test_a_signed_beat_is_no_signed_wish() -> None:
    with pytest.raises(SignatureRefused, match="signed, but unreadable"):
        Verifier([SIGNER.public]).verify(DesiredBody, **SIGNER.sign(BODY))


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "scheduler.key"

    made = load_or_make_key(path)

    assert load_or_make_key(path).public == made.public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.with_suffix(".pub").read_text() == made.public + "\n"


def test_the_public_file_follows_the_key(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.key"
    load_or_make_key(path)
    path.write_bytes(b"1" * 32)

    load_or_make_key(path)

    assert path.with_suffix(".pub").read_text().strip() == SIGNER.public


def test_a_file_that_is_no_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.key"
    path.write_bytes(b"")

    with pytest.raises(ValueError, match=r"scheduler\.key: 0 bytes are no key"):
        load_or_make_key(path)


@pytest.mark.parametrize(
    "text",
    ["", "rubbish", "abc:", "abc:AAAA", f"{OTHER.key_id}:{SIGNER.public.partition(':')[2]}"],
)
def test_a_text_that_is_no_public_key_is_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"no public key|does not belong"):
        parse_public_key(text)
