"""Damages to model directories made of headers, and whether each is told in one line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.preflight.weights import read_weights
from orca2_gen.strategies import OWN_FILE
from tests.preflight.model_directories import INDEX, TINY, llama, write_model, write_weights

CONFIG, SHAPES = llama(**TINY)
NUM_VALUES = 2 * 32000 * 16 + 2 * (2 * 16 * 16 + 2 * 8 * 16 + 3 * 24 * 16 + 2 * 16) + 16


def model(folder: Path, num_files: int = 3) -> Path:
    return write_model(folder, CONFIG, SHAPES, num_files)


def lines(folder: Path) -> tuple[list[str], list[str]]:
    weights = read_weights("student.model", folder)
    return list(weights.facts), list(weights.odd)


def refused(folder: Path, role: str = "student") -> str:
    with pytest.raises(ValueError) as error:
        read_weights(f"{role}.model", folder)
    line = str(error.value)
    assert line.startswith(f"{role}.model: {folder}") and "\n" not in line
    assert ";" in line or ": convert" in line  # the remedy
    return line


def indexed(folder: Path, **changes: Any) -> None:
    body = json.loads((folder / INDEX).read_text())
    body["weight_map"] |= changes
    (folder / INDEX).write_text(json.dumps(body))


@pytest.mark.parametrize("num_files", [1, 2, 7])
def test_a_whole_model_is_described_and_nothing_is_odd(tmp_path: Path, num_files: int) -> None:
    facts, odd = lines(model(tmp_path, num_files))
    files = "1 file" if num_files == 1 else f"{num_files} files"
    assert facts == [
        f"{2 * NUM_VALUES / 1e6:.2f} MB of weights in {files} (BF16), "
        f"{NUM_VALUES / 1e6:.2f} million parameters"
    ]
    assert odd == []


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_the_microworlds_models_are_whole(name: str) -> None:
    facts, odd = lines(OWN_FILE.with_name("microworld") / name)
    assert "BF16" in facts[0] and odd == []


@given(data=st.data(), num_files=st.integers(1, 5))
def test_a_model_that_lost_any_file_of_weights_is_refused_with_its_name(
    tmp_path_factory: pytest.TempPathFactory, data: Any, num_files: int
) -> None:
    folder = model(tmp_path_factory.mktemp("model"), num_files)
    files = sorted(folder.glob("*.safetensors"))
    lost = data.draw(st.lists(st.sampled_from(files), unique=True, min_size=1))
    for path in lost:
        path.unlink()
    if data.draw(st.booleans()) and num_files > 1:
        (folder / INDEX).unlink()
    line = refused(folder)
    if len(lost) == len(files):
        assert "no .safetensors" in line
    else:
        assert min(lost).name in line and f"lacks {len(lost)} of" in line
    shutil.rmtree(folder)


@given(data=st.data(), num_files=st.integers(1, 4))
def test_a_model_with_any_file_cut_is_refused_with_its_name(
    tmp_path_factory: pytest.TempPathFactory, data: Any, num_files: int
) -> None:
    folder = model(tmp_path_factory.mktemp("model"), num_files)
    path = data.draw(st.sampled_from(sorted(folder.glob("*.safetensors"))))
    with open(path, "r+b") as file:
        file.truncate(data.draw(st.integers(0, path.stat().st_size - 1)))
    assert path.name in refused(folder, "teacher")
    shutil.rmtree(folder)


@given(tensor=st.sampled_from(sorted(SHAPES)), num_files=st.integers(2, 4))
def test_a_tensor_that_only_the_index_has_is_named(
    tmp_path_factory: pytest.TempPathFactory, tensor: str, num_files: int
) -> None:
    shapes = {name: shape for name, shape in SHAPES.items() if name != tensor}
    folder = write_model(tmp_path_factory.mktemp("model"), CONFIG, shapes, num_files)
    indexed(folder, **{tensor: f"model-00001-of-{num_files:05}.safetensors"})
    assert f"lacks 1 of the {len(SHAPES)} tensors" in (line := refused(folder)) and tensor in line
    shutil.rmtree(folder)


def only(folder: Path, *names: str) -> None:
    for path in folder.iterdir():
        path.unlink()
    for name in names:
        (folder / name).write_bytes(b"{}")


def part(folder: Path, number: int = 2) -> Path:
    return folder / f"model-0000{number}-of-00003.safetensors"


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda d: only(d), "is empty; copy the model there"),
    "pickles only": (
        lambda d: only(d, "pytorch_model.bin", "x.pt", "config.json"),
        "pytorch_model.bin and 1 more could run code",
    ),
    "another format": (lambda d: only(d, "model.gguf"), "no .safetensors file"),
    "an adapter": (
        lambda d: only(d, "adapter_config.json", "adapter_model.safetensors"),
        "holds an adapter and not a model; merge it",
    ),
    "an adapter's pickle": (
        lambda d: only(d, "adapter_config.json", "adapter_model.bin"),
        "holds an adapter and not a model; merge it",
    ),
    "a pointer": (
        lambda d: part(d).write_text("version https://git-lfs.github.com/spec/v1\n"),
        "Git LFS pointer",
    ),
    "an index that is a pointer": (
        lambda d: (d / INDEX).write_text("version https://git-lfs.github.com/spec/v1\n"),
        "Git LFS pointer",
    ),
    "a link to nothing": (
        lambda d: replaced(part(d), lambda path: path.symlink_to("nowhere")),
        "is a link that leads to nothing; copy it again",
    ),
    "a directory": (lambda d: replaced(part(d), Path.mkdir), "is a directory; expected a regular"),
    "a FIFO": (lambda d: replaced(part(d), os.mkfifo), "is a FIFO; expected a regular file"),
    "an index that is cut": (lambda d: (d / INDEX).write_text("{"), "not JSON"),
    "an index of a list": (lambda d: (d / INDEX).write_text("[]"), 'no table "weight_map"'),
    "an index of nothing": (lambda d: (d / INDEX).write_text('{"weight_map": {}}'), "weight_map"),
    "an index that names a pickle": (lambda d: indexed(d, x="x.bin"), "'x.bin'; expected a .safet"),
    "an index that leads out": (lambda d: indexed(d, x="../x.safetensors"), "'../x.safetensors'"),
    "an index of numbers": (lambda d: indexed(d, x=7), "names the weights file 7"),
    "a file without tensors": (
        lambda d: (only(d), write_weights(d / "model.safetensors", {})),
        "holds no tensor in model.safetensors",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_is_refused_with_role_directory_and_remedy(tmp_path: Path, damage: str) -> None:
    make, words = DAMAGES[damage]
    make(model(tmp_path))
    assert words in refused(tmp_path, "judge")


def test_a_download_cache_is_told_with_the_directory_inside(tmp_path: Path) -> None:
    model(tmp_path / "snapshots" / "abc")
    assert f"give {tmp_path / 'snapshots' / 'abc'}" in refused(tmp_path)


ODDITIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda d: (d / INDEX).unlink(), "training needs the index"),
    "a file that the index lacks": (
        lambda d: write_weights(d / "model-00004-of-00003.safetensors", {"x": (2,)}),
        "does not name model-00004-of-00003.safetensors, so vLLM leaves it out",
    ),
    "two models": (
        lambda d: write_weights(d / "model.safetensors", SHAPES),
        "so vLLM leaves it out, but training reads model.safetensors",
    ),
    "Mistral's own file": (
        lambda d: write_weights(d / "consolidated.safetensors", SHAPES),
        "vLLM reads consolidated.safetensors, training reads the others",
    ),
    "an adapter beside the model": (
        lambda d: (d / "adapter_config.json").write_text("{}"),
        "the adapter beside the model (adapter_config.json) is not applied",
    ),
    "a tensor in another file": (
        lambda d: indexed(d, **{"lm_head.weight": part(d, 1).name}),
        "lm_head.weight is in another file than the index says: model-00003",
    ),
    "a tensor that the index lacks": (
        lambda d: write_weights(
            part(d), {**{n: SHAPES[n] for n, f in weight_map(d).items() if f == part(d).name}}
            | {"more": (3,)}
        ),
        "the index does not name more, which vLLM reads all the same",
    ),
}  # fmt: skip


def weight_map(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / INDEX).read_text())["weight_map"]
    return found


@pytest.mark.parametrize("oddity", ODDITIES)
def test_what_is_odd_is_one_line_and_stops_nothing(tmp_path: Path, oddity: str) -> None:
    make, words = ODDITIES[oddity]
    make(model(tmp_path))
    _, [line] = lines(tmp_path)
    assert words in line and "\n" not in line


def test_a_tensor_that_stands_in_two_files_is_odd(tmp_path: Path) -> None:
    model(tmp_path, 2)
    (tmp_path / INDEX).unlink()
    write_weights(tmp_path / "more.safetensors", {"lm_head.weight": SHAPES["lm_head.weight"]})
    _, odd = lines(tmp_path)
    assert any("lm_head.weight stands in several files" in line for line in odd)


def test_packed_weights_are_not_counted_as_parameters(tmp_path: Path) -> None:
    write_model(tmp_path, CONFIG, {"x": (3, 5)}, 1, "I32")
    [line], _ = lines(tmp_path)
    assert "numbers, some of them packed" in line


def test_bytes_are_told_by_dtype_where_there_are_several(tmp_path: Path) -> None:
    write_weights(tmp_path / "a.safetensors", {"a": (500_000, 1000)}, "F32")
    write_weights(tmp_path / "b.safetensors", {"b": (1000, 1000)}, "F16")
    [line], _ = lines(tmp_path)
    assert line == (
        "2.00 GB of weights in 2 files (F32 2.00 GB, F16 2.00 MB), 501.00 million parameters"
    )
