from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca2_gen.provenance.model_licenses import model_license

NOTHING = ("", "")


def license_of(directory: Path, card: str | bytes) -> tuple[str, str]:
    body = card.encode() if isinstance(card, str) else card
    (directory / "README.md").write_bytes(body)
    return model_license(directory)


@pytest.mark.parametrize(
    ("front", "license"),
    [
        ("license: apache-2.0", "apache-2.0"),
        ("tags: [x]\nlicense: mit\nlanguage: en", "mit"),
        ("license:\n- mit", "mit"),
        ("license: [mit, apache-2.0]", "mit, apache-2.0"),
        ("license: other\nlicense_name: llama-3-community", "llama-3-community"),
        ("license: other", "other"),
        ("license: other\nlicense_name: [x]", "other"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_models_card_states_its_license(
    tmp_path: Path, front: str, license: str, end: str
) -> None:
    card = f"---\n{front}\n---\n# Model\n".replace("\n", end)
    assert license_of(tmp_path, card) == (license, "model card")


BOMB = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
MERGES = "a: &a {k: v}\n" + "".join(
    f"{name}: &{name}\n  <<: [{', '.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True)
)


@pytest.mark.parametrize(
    "front",
    [
        "",
        "[]",
        "license",
        "- license: mit",
        "license: 1.0",
        "license: no",
        "license:",
        "license: {a: b}",
        "license: [[mit]]",
        "license: []",
        "license: [1]",
        "license: 2020-01-01",
        "license: 2020-99-99",
        "license: 'a\n\n  b'",
        "license: '| x |'",
        "license: <script>",
        "license: '-->'",
        "license: /etc/passwd",
        "license: " + "x" * 65,
        "license: hf_" + "a1B2" * 8,
        "license: !!python/object/apply:os.system [true]",
        "license: !!binary x",
        "license: " + "9" * 10_000,
        "x: " + "[" * 5_000 + "\nlicense: mit",
        "license: mit\n? [a]\n: b",
        "a: b: c\nlicense: mit",
        f"x: {'y' * 70_000}\nlicense: mit",
        f"{BOMB}license: mit",
        f"{MERGES}license: mit",
        "license: \x00",
    ],
)
def test_what_is_no_plain_license_is_not_stated(tmp_path: Path, front: str) -> None:
    assert license_of(tmp_path, f"---\n{front}\n---\n") == NOTHING


@pytest.mark.parametrize(
    "card",
    [
        b"",
        b"# Model\nlicense: mit\n",
        b"---\nlicense: mit\n",
        b"text\n---\nlicense: mit\n---\n",
        b"---\nlicense: mit\xff\n---\n",
        b"---\nlicense: mit\n---\n" + b"x" * (4 << 20),
    ],
)
def test_what_is_no_card_states_nothing(tmp_path: Path, card: bytes) -> None:
    assert license_of(tmp_path, card) == NOTHING


@settings(max_examples=50, deadline=None)
@given(body=st.binary(max_size=300) | st.text(max_size=300).map(lambda text: f"---\n{text}\n---\n"))
def test_any_card_is_read_without_an_error(
    tmp_path_factory: pytest.TempPathFactory, body: str | bytes
) -> None:
    license, source = license_of(tmp_path_factory.mktemp("model"), body)
    assert license.isprintable() and bool(license) == (source == "model card")


@pytest.mark.parametrize("name", ["LICENSE", "LICENSE.txt", "licence.md", "License-Llama"])
def test_else_a_license_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("terms")
    assert model_license(tmp_path) == (f"see {name} in the model's directory", "file")
    assert license_of(tmp_path, "---\nlicense: mit\n---\n") == ("mit", "model card")


def test_what_only_looks_like_a_license_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "LICENSE | x").write_text("terms")
    (tmp_path / "LICENSE").mkdir()
    (tmp_path / "UNLICENSED").write_text("terms")
    assert model_license(tmp_path) == NOTHING
    assert model_license(tmp_path / "absent") == NOTHING


def test_a_card_that_never_ends_or_leads_nowhere_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "README.md")
    assert model_license(tmp_path) == NOTHING
    (tmp_path / "README.md").unlink()
    (tmp_path / "README.md").symlink_to("/dev/zero")
    assert model_license(tmp_path) == NOTHING
    (tmp_path / "README.md").unlink()
    (tmp_path / "README.md").symlink_to(tmp_path / "absent")
    assert model_license(tmp_path) == NOTHING
