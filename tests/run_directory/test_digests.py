from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from orca2_gen.run_directory.digests import file_digest, model_digest, tokenizer_files_digest


def weights(path: Path, body: bytes, header: dict[str, object] | None = None) -> None:
    text = json.dumps(header or {}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weights(tmp_path / "model.safetensors", bytes(3_000_000))
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_the_same_directory_elsewhere_has_the_same_digest(
    model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = shutil.copytree(model, tmp_path_factory.mktemp("copy") / "model")
    assert model_digest(copy) == model_digest(model)


def test_42_symbolic_links_to_the_files_or_the_directory_change_nothing(
    model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (model / "tokenizer.json").write_text("{}")
    elsewhere = tmp_path_factory.mktemp("hub")
    linked, directory = elsewhere / "snapshot", elsewhere / "directory"
    linked.mkdir()
    for file in model.iterdir():
        (linked / file.name).symlink_to(file)
    directory.symlink_to(model, target_is_directory=True)
    for found in (linked, directory):
        assert model_digest(found) == model_digest(model)
        assert tokenizer_files_digest(found) == tokenizer_files_digest(model)


def test_header_size_config_and_evenly_changed_weights_change_the_digest(model: Path) -> None:
    found = {model_digest(model)}
    weights(model / "model.safetensors", bytes(3_000_000), {"a": 1})
    found.add(model_digest(model))
    weights(model / "model.safetensors", bytes(3_000_001))
    found.add(model_digest(model))
    weights(model / "model.safetensors", b"\1" * 3_000_000)
    found.add(model_digest(model))
    (model / "config.json").write_text('{"a": 1}')
    found.add(model_digest(model))
    assert len(found) == 5


@pytest.mark.parametrize("body", [b"", b"1234", struct.pack("<Q", 10**12) + b"{}"])
def test_a_cut_weights_file_is_refused(model: Path, body: bytes) -> None:
    (model / "model.safetensors").write_bytes(body)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        model_digest(model)


def test_a_directory_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"holds no .safetensors"):
        model_digest(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["tokenizer.json", "vocab.json", "merges.txt", "chat_template.jinja", "generation_config.json"],
)
def test_every_file_that_can_change_ids_is_in_the_tokenizers_digest(
    chatml_dir: Path, tmp_path: Path, name: str
) -> None:
    copy = shutil.copytree(chatml_dir, tmp_path / "model")
    before = tokenizer_files_digest(copy)
    assert before == tokenizer_files_digest(chatml_dir)
    with open(copy / name, "ab") as file:
        file.write(b" ")
    assert tokenizer_files_digest(copy) != before


def test_a_file_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert file_digest(tmp_path / "empty").startswith("e3b0c44298fc1c14")


def sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(200 << 30)


ODD: dict[str, Callable[[Path], object]] = {
    "is a FIFO": lambda path: os.mkfifo(path),
    "is a device": lambda path: path.symlink_to("/dev/zero"),
    "is a directory": lambda path: path.mkdir(),
    r"(has .* bytes|not a whole safetensors file|has a header of)": sparse,
}


@pytest.mark.parametrize("said", ODD)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_models_files_are_regular_and_of_a_size_that_can_be_read(
    model: Path, name: str, said: str
) -> None:
    if name == "model.safetensors" and ODD[said] is sparse:
        weights(model / name, b"")
        with open(model / name, "r+b") as file:  # its header is as long as the file
            file.write(struct.pack("<Q", (200 << 30) - 8))
            file.truncate(200 << 30)
    else:
        (model / name).unlink(missing_ok=True)
        ODD[said](model / name)
    with pytest.raises(ValueError, match=f"{name} {said}"):
        (tokenizer_files_digest if name == "tokenizer.json" else model_digest)(model)


@pytest.mark.parametrize("said", ODD)
def test_a_task_file_that_cannot_be_digested_is_one_line(tmp_path: Path, said: str) -> None:
    ODD[said](tmp_path / "task.jsonl")
    with pytest.raises(ValueError, match=f"task.jsonl {said}"):
        file_digest(tmp_path / "task.jsonl")
