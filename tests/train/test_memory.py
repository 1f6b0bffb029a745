from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig

from orca2_gen.config.training import TrainingConfig
from train import memory
from train.memory import MemoryNeed, fewest_ranks, memory_line, memory_need, tightness
from train.plan import execution_of, training_plan

GB = 1_000_000_000


def seven_billion(**changes: Any) -> MemoryNeed:
    """Llama 2 7B, trained as the defaults of the config say."""
    defaults = TrainingConfig()
    values = {
        "num_parameters": 6_738_415_616,
        "optimizer": defaults.optimizer,
        "seq_len": defaults.seq_len,
        "rows_per_forward": defaults.rows_per_forward,
        "dtype": defaults.dtype,
        "gradient_checkpointing": defaults.gradient_checkpointing,
    } | changes
    return memory_need(
        LlamaConfig(num_hidden_layers=32, hidden_size=4096, vocab_size=32000), **values
    )


def test_the_defaults_fit_seven_billion_parameters_on_eight_gpus_of_80_gb() -> None:
    need = seven_billion()
    assert need.spread == 16 * 6_738_415_616
    assert tightness(need, 80 * GB, 8) == ""


@pytest.mark.parametrize(
    ("optimizer", "moments_dtype", "each"),
    [("adamw", "float32", 16), ("adamw", "bfloat16", 12), ("muon", "float32", 12)],
)
def test_a_weight_takes_the_bytes_of_its_gradient_and_moments_too(
    optimizer: str, moments_dtype: str, each: int
) -> None:
    need = seven_billion(optimizer=optimizer, moments_dtype=moments_dtype)
    assert need.spread == each * 6_738_415_616
    shorter = seven_billion(optimizer="muon", moments_dtype="bfloat16")
    assert shorter.spread == 10 * 6_738_415_616


def test_activations_of_all_rows_of_a_step_do_not_fit_and_the_line_says_what_helps() -> None:
    line = tightness(seven_billion(rows_per_forward=8), 80 * GB, 8)
    assert "in each of 8 processes, and a GPU has 80.00 GB; if it runs out of memory" in line
    assert "gradient_checkpointing" in line and "rows_per_forward" in line
    assert (
        tightness(seven_billion(rows_per_forward=8, gradient_checkpointing=True), 80 * GB, 8) == ""
    )


def test_what_cannot_fit_is_refused_with_the_number_of_processes_that_can() -> None:
    with pytest.raises(ValueError, match="use 2 processes or more, or a smaller model"):
        tightness(seven_billion(), 80 * GB, 1)


@given(
    spread=st.integers(1, 10**13),
    own=st.integers(0, 10**12),
    gpu=st.integers(10**9, 2 * 10**11),
)
def test_the_fewest_processes_fit_and_one_less_does_not(spread: int, own: int, gpu: int) -> None:
    need = MemoryNeed(spread=spread, own=own)
    ranks = fewest_ranks(need, gpu)
    if ranks is None:
        assert own >= int(0.9 * gpu)
        return
    assert need.in_each(ranks) <= int(0.9 * gpu)
    assert ranks == 1 or need.in_each(ranks - 1) > int(0.9 * gpu)


def test_a_training_program_without_a_gpu_says_nothing(model_dir: Path) -> None:
    training = TrainingConfig()
    assert memory_line(training_plan(training), execution_of(training), model_dir) == ""


def test_a_training_program_says_what_its_gpu_lacks_before_weights_are_read(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = TrainingConfig()
    plan, execution = training_plan(training), execution_of(training)
    monkeypatch.setattr(memory, "_gpu_bytes", lambda: 5_000_000)
    line = memory_line(plan, execution, model_dir)
    assert line.startswith("training takes about ") and "a GPU has 5.00 MB" in line
    monkeypatch.setattr(memory, "_gpu_bytes", lambda: 100_000)
    with pytest.raises(ValueError, match=r"a GPU has 0\.10 MB"):
        memory_line(plan, execution, model_dir)
