from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import orca2_gen.preparation.new_rows as module
from orca2_gen.preparation.new_rows import NOISE, new_rows


def saved(folder: Path, rows: torch.Tensor) -> Path:
    save_file({"rows": rows}, folder / "a.safetensors")
    return folder / "a.safetensors"


def test_new_rows_have_the_mean_and_the_covariance_of_the_trained_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    mixing = torch.randn(4, 4, dtype=torch.float64)
    rows = torch.randn(900, 4, dtype=torch.float64) @ mixing + 3
    rows[700:] = 1e6  # untrained
    monkeypatch.setattr(module, "_BLOCK_BYTES", 3 * 32)  # blocks of three rows
    made = torch.stack(new_rows(saved(tmp_path, rows), "rows", range(700), 4000, 0))
    wanted = torch.cov(rows[:700].T) * NOISE
    assert torch.allclose(made.mean(0), rows[:700].mean(0), atol=1e-3)
    assert torch.allclose(torch.cov(made.T), wanted, atol=0.1 * float(wanted.abs().max()))


@given(rows=st.integers(1, 40), width=st.integers(1, 9), count=st.integers(1, 3))
def test_the_same_rows_come_each_time_and_a_bias_has_numbers_as_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: int, width: int, count: int
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    torch.manual_seed(rows)
    values = torch.randn(rows, width)
    path = saved(folder, values)
    trained = range(0, rows, 2)
    whole = new_rows(path, "rows", trained, count, 1)
    assert all(map(torch.equal, whole, new_rows(path, "rows", trained, count, 1)))
    assert all(row.dtype == values.dtype and row.shape == (width,) for row in whole)
    bias = new_rows(saved(folder, values[:, 0].clone()), "rows", trained, count, 1)
    near = values[::2, 0].mean()
    assert all(abs(float(each) - float(near)) < 0.1 for each in bias)


def test_the_rows_of_two_tensors_differ(tmp_path: Path) -> None:
    path = saved(tmp_path, torch.randn(50, 8))
    first, second = (new_rows(path, "rows", range(50), 2, stream) for stream in (0, 1))
    assert not torch.equal(first[0], second[0]) and not torch.equal(first[0], first[1])
