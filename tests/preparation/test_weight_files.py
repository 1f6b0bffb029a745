from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from orca2_gen.preparation.weight_files import copy_file, write_weights

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int8)


def read(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@given(data=st.data())
def test_rows_are_put_or_appended_and_every_other_byte_stays(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("weights")
    shapes = data.draw(
        st.lists(
            st.tuples(st.sampled_from(DTYPES), st.integers(1, 6), st.integers(0, 5)),
            min_size=1,
            max_size=5,
        )
    )
    tensors = {
        f"t{place}": torch.randint(-9, 9, (rows, *([width] if width else []))).to(dtype)
        for place, (dtype, rows, width) in enumerate(shapes)
    }
    save_file(tensors, folder / "old.safetensors", metadata={"format": "pt", "mine": "x"})
    changed, wanted = {}, dict(tensors)
    for name in data.draw(st.sets(st.sampled_from(sorted(tensors)))):
        old = tensors[name]
        total = len(old) + data.draw(st.integers(0, 3))
        within = data.draw(st.sets(st.integers(0, len(old) - 1)))
        rows = sorted(within | set(range(len(old), total)))
        grown = torch.cat([old, torch.zeros(total - len(old), *old.shape[1:], dtype=old.dtype)])
        for row in rows:
            grown[row] = row + 1
        if rows:
            changed[name] = {row: raw(grown[row]) for row in rows}
            wanted[name] = grown
    write_weights(folder / "old.safetensors", folder / "new.safetensors", changed)
    found = read(folder / "new.safetensors")
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
    with safe_open(folder / "new.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt", "mine": "x"}


def test_a_copy_follows_links_and_never_writes_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"weights")
    (tmp_path / "link").symlink_to("blob")
    copy_file(tmp_path / "link", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"weights" and not (tmp_path / "copy").is_symlink()
    with pytest.raises(FileExistsError):
        copy_file(tmp_path / "link", tmp_path / "copy")
