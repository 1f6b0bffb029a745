from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.train.test_sft import PLAN, killed_in_step, read_losses, run_training
from train.moments import CompactAdamW

BETAS = (0.9, 0.95)
SHAPES = st.lists(st.sampled_from([(), (1,), (7,), (3, 5), (2, 3, 4)]), min_size=1, max_size=6)


def parameters_of(shapes: list[tuple[int, ...]], seed: int) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def give_gradients(parameters: list[torch.nn.Parameter], seed: int) -> None:
    """A gradient for all but one of several, as an expert that no token chose has none."""
    generator = torch.Generator().manual_seed(seed)
    for index, parameter in enumerate(parameters):
        gradient = torch.randn(parameter.shape, generator=generator)
        parameter.grad = None if index == seed % 5 and len(parameters) > 1 else gradient


@settings(max_examples=50, deadline=None)
@given(shapes=SHAPES, most=st.sampled_from([1, 10, 1 << 26]), seed=st.integers(0, 100))
def test_with_moments_in_float32_it_is_torchs_adamw_to_the_bit(
    shapes: list[tuple[int, ...]], most: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("train.moments._MOST_ELEMENTS", most)
        ours, theirs = parameters_of(shapes, seed), parameters_of(shapes, seed)
        compact = CompactAdamW(ours, lr=0.1, betas=BETAS, dtype=torch.float32, weight_decay=0.1)
        adamw = torch.optim.AdamW(theirs, lr=0.1, betas=BETAS, weight_decay=0.1, fused=True)
        for step in range(3):
            for parameters, optimizer in ((ours, compact), (theirs, adamw)):
                give_gradients(parameters, seed + step)
                optimizer.step()
        assert all(map(torch.equal, ours, theirs))


@settings(max_examples=50, deadline=None)
@given(shapes=SHAPES, seed=st.integers(0, 100))
def test_a_step_is_torchs_from_the_rounded_moments_and_rounds_what_it_keeps(
    shapes: list[tuple[int, ...]], seed: int
) -> None:
    ours, theirs = parameters_of(shapes, seed), parameters_of(shapes, seed)
    compact = CompactAdamW(ours, lr=0.1, betas=BETAS, dtype=torch.bfloat16)
    adamw = torch.optim.AdamW(theirs, lr=0.1, betas=BETAS, weight_decay=0.0, fused=True)
    for step in range(4):
        for parameters, optimizer in ((ours, compact), (theirs, adamw)):
            give_gradients(parameters, seed + step)
            optimizer.step()
        assert all(map(torch.equal, ours, theirs))
        for mine, other in zip(ours, theirs, strict=True):
            for name in ("exp_avg", "exp_avg_sq") if adamw.state[other] else ():
                kept, exact = compact.state[mine][name], adamw.state[other][name]
                assert kept.dtype == torch.bfloat16 and torch.equal(kept, exact.bfloat16())
                exact.copy_(kept)


def test_a_state_that_is_loaded_keeps_its_format() -> None:
    [parameter] = parameters_of([(3, 5)], 0)
    first, second = (
        CompactAdamW([parameter], lr=0.1, betas=BETAS, dtype=torch.bfloat16) for _ in "12"
    )
    give_gradients([parameter], 1)
    first.step()
    second.load_state_dict(first.state_dict())
    for name in ("exp_avg", "exp_avg_sq"):
        found = second.state[parameter][name]
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, first.state[parameter][name])
    assert second.state[parameter]["step"] == 1


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("async_save", [False, True])
def test_a_killed_training_with_short_moments_goes_on_with_the_same_curve(
    tmp_path: Path,
    model_dir: Path,
    dataset_dir: Path,
    optimizer: str,
    async_save: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = replace(PLAN, optimizer=optimizer, moments_dtype="bfloat16")
    saving = {"save_every_steps": 2, "async_save": async_save}
    run_training(tmp_path / "whole", model_dir, dataset_dir, plan=plan)
    with killed_in_step(6, monkeypatch, CompactAdamW):
        run_training(tmp_path / "killed", model_dir, dataset_dir, plan=plan, **saving)
    [state] = (tmp_path / "killed/student.training").glob("step-*")
    kept = {
        name: tensor
        for file in state.glob("*.safetensors")
        for name, tensor in load_file(file).items()
        if name.startswith("optimizers.") and tensor.ndim
    }
    assert {tensor.dtype for tensor in kept.values()} == {torch.bfloat16}
    run_training(tmp_path / "killed", model_dir, dataset_dir, plan=plan, **saving)
    whole = read_losses(tmp_path / "whole/metrics.jsonl")
    assert read_losses(tmp_path / "killed/metrics.jsonl") == whole
    run_training(tmp_path / "long", model_dir, dataset_dir, plan=replace(PLAN, optimizer=optimizer))
    assert whole == pytest.approx(read_losses(tmp_path / "long/metrics.jsonl"), rel=0.02)


@pytest.mark.parametrize("moments", ["float32", "bfloat16"])
def test_a_state_of_other_moments_is_refused(
    tmp_path: Path,
    model_dir: Path,
    dataset_dir: Path,
    moments: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans = {each: replace(PLAN, moments_dtype=each) for each in ("float32", "bfloat16")}
    mine = plans.pop(moments)
    [other] = plans.values()
    kind = torch.optim.AdamW if moments == "float32" else CompactAdamW
    with killed_in_step(3, monkeypatch, kind):
        run_training(tmp_path, model_dir, dataset_dir, plan=mine, save_every_steps=1)
    with pytest.raises(ValueError, match=r"belongs to another training run: .*moments_dtype"):
        run_training(tmp_path, model_dir, dataset_dir, plan=other)


@given(shapes=SHAPES)
def test_moments_take_four_bytes_a_weight(shapes: list[tuple[int, ...]]) -> None:
    parameters = parameters_of(shapes, 0)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer = CompactAdamW(parameters, lr=0.1, betas=BETAS, dtype=torch.bfloat16)
    optimizer.step()
    kept = [
        value
        for remembered in optimizer.state.values()
        for name, value in remembered.items()
        if name != "step"
    ]
    assert sum(value.nbytes for value in kept) == 4 * sum(each.numel() for each in parameters)
