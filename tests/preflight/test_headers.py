from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.preflight.headers import read_header
from tests.preflight.model_directories import BYTES, header_of, write_weights

SHAPES = st.dictionaries(
    st.text("abc.", min_size=1, max_size=8),
    st.lists(st.integers(0, 5), max_size=3).map(tuple),
    max_size=4,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("headers") / "model.safetensors"


def refused(path: Path) -> str:
    with pytest.raises(ValueError) as error:
        read_header(path)
    line = str(error.value)
    assert str(path) in line and "\n" not in line and "copy it again" in line
    return line


@given(shapes=SHAPES, dtype=st.sampled_from(sorted(BYTES)))
def test_a_whole_file_is_described_as_it_was_written(
    path: Path, shapes: dict[str, tuple[int, ...]], dtype: str
) -> None:
    write_weights(path, shapes, dtype)
    found = read_header(path)
    assert {name: tensor.shape for name, tensor in found.items()} == shapes
    for tensor in found.values():
        assert tensor.dtype == dtype
        assert tensor.num_values == math.prod(tensor.shape)
        assert tensor.num_bytes == BYTES[dtype] * tensor.num_values


@given(shapes=SHAPES.filter(lambda s: any(map(math.prod, s.values()))), data=st.data())
def test_a_file_cut_at_any_byte_or_grown_is_refused(
    path: Path, shapes: dict[str, tuple[int, ...]], data: Any
) -> None:
    write_weights(path, shapes)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:cut])
    refused(path)
    path.write_bytes(whole + b"\0")
    assert "its header promises" in refused(path)


@given(body=st.binary(max_size=200))
def test_bytes_of_any_kind_are_refused_with_one_line_or_read(path: Path, body: bytes) -> None:
    for written in (body, len(body).to_bytes(8, "little") + body):
        path.write_bytes(written)
        try:
            read_header(path)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=9), each),
    max_leaves=6,
)
KEYS = st.fixed_dictionaries(
    {}, optional={"dtype": JSON | st.just("F32"), "shape": JSON, "data_offsets": JSON}
)


@given(header=JSON | st.dictionaries(st.sampled_from(["x", "__metadata__"]), KEYS | JSON))
def test_a_header_of_any_json_is_refused_with_one_line_or_read(path: Path, header: Any) -> None:
    body = json.dumps(header).encode()
    path.write_bytes(len(body).to_bytes(8, "little") + body)
    try:
        read_header(path)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def test_a_header_larger_than_any_models_is_not_read(path: Path) -> None:
    with open(path, "wb") as file:
        file.write((1 << 40).to_bytes(8, "little"))
        file.truncate(1 << 41)  # a hole
    assert "header of 1099511627776 bytes" in refused(path)


def test_a_git_lfs_pointer_is_called_by_its_name(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 99\n")
    line = refused(path)
    assert "Git LFS pointer" in line and "git lfs pull" in line


def test_a_header_says_the_length_that_it_has() -> None:
    header, num_bytes = header_of({"x": (2, 3)}, "I64")
    assert int.from_bytes(header[:8], "little") == len(header) - 8
    assert num_bytes == 48
