"""Shapes: B rows, T tokens per row."""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from orca2_gen.config.load import load_config
from orca2_gen.exit_codes import FAILED
from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.lock import RunInUse, run_lock
from train.batches import Batch, Encoded, PackedExamples, build_batch, encoded, packed_batches
from train.examples import load_examples
from train.fit import StepMetrics, fit
from train.loss import LabelledLoss, labels_per_chunk
from train.optimizers import Schedule, build_optimizers, learning_rate_at
from train.packing import pack
from train.plan import Execution, TrainingPlan
from train.sft import TrainedStudent, main, train_from_config, train_student
from train.trainer_lock import only_trainer

BuildLlama = Callable[..., LlamaForCausalLM]
PLAN = TrainingPlan(
    seq_len=512,
    rows_per_step=4,
    num_epochs=1,
    num_steps=8,
    learning_rate=3e-3,
    warmup_fraction=0.1,
    optimizer="adamw",
    weight_decay=0.01,
    max_grad_norm=1.0,
    dtype="float32",
    seed=5,
)


def read_losses(metrics_file: Path) -> list[float]:
    lines = [json.loads(line) for line in metrics_file.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


def run_training(
    folder: Path, model_dir: Path, dataset_dir: Path, *, plan: TrainingPlan = PLAN, **execution: int
) -> TrainedStudent:
    return train_student(
        plan,
        Execution(**execution),
        model_dir=model_dir,
        dataset_dir=dataset_dir,
        output_dir=folder / "student",
        metrics_file=folder / "metrics.jsonl",
        prompts="erased",
    )


def batches_of(
    examples: list[Encoded], rows_per_step: int = 4, rows_per_forward: int | None = None
) -> Iterator[Batch]:
    packing = pack([len(e.input_ids) for e in examples], seq_len=64, seed=0)
    return packed_batches(
        [PackedExamples(examples=examples, packing=packing)],
        rows_per_step=rows_per_step,
        rows_per_forward=rows_per_forward,
        seed=0,
    )


def fit_losses(
    model: LlamaForCausalLM,
    batches: Iterator[Batch],
    *,
    optimizer: str = "adamw",
    dtype: torch.dtype = torch.float32,
    num_steps: int = 12,
) -> list[float]:
    metrics: list[StepMetrics] = []
    fit(
        LabelledLoss(model, dtype=dtype),
        batches,
        build_optimizers(model, optimizer=optimizer, learning_rate=3e-3),
        Schedule(learning_rate=3e-3, num_steps=num_steps),
        log=metrics.append,
    )
    return [one.loss for one in metrics]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_falls(
    build_llama: BuildLlama, examples: list[Encoded], optimizer: str, dtype: torch.dtype
) -> None:
    model = build_llama()
    batch = next(batches_of(examples))
    losses = fit_losses(model, itertools.repeat(batch), optimizer=optimizer, dtype=dtype)
    assert losses[-1] < losses[0] - 0.5
    assert model.model.embed_tokens.weight.dtype == torch.float32


def test_bfloat16_and_float32_begin_at_the_same_loss(
    build_llama: BuildLlama, examples: list[Encoded]
) -> None:
    first = [
        fit_losses(build_llama(), batches_of(examples), dtype=dtype, num_steps=1)[0]
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert first[1] == pytest.approx(first[0], rel=0.01)


def test_rows_per_forward_changes_no_loss(build_llama: BuildLlama, examples: list[Encoded]) -> None:
    whole = fit_losses(build_llama(), batches_of(examples))
    split = fit_losses(build_llama(), batches_of(examples, rows_per_forward=1))
    assert split == pytest.approx(whole, rel=1e-4)


def test_logits_in_chunks_change_neither_loss_nor_gradient(
    build_llama: BuildLlama, examples: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    [rows] = next(batches_of(examples)).passes
    results = []
    for chunk in (8192, 7):
        monkeypatch.setattr("train.loss.labels_per_chunk", lambda vocabulary, chunk=chunk: chunk)
        model = build_llama(tied=False)
        loss = LabelledLoss(model)(rows.input_ids_BT, rows.labels_BT, rows.position_ids_BT)
        loss.backward()
        results.append((loss.detach(), model.lm_head.weight.grad, model.model.norm.weight.grad))
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-4)


def test_no_more_logits_are_kept_than_those_of_a_chunk(
    build_llama: BuildLlama, examples: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    [rows] = next(batches_of(examples)).passes
    vocabulary = 1021  # which no other tensor's width is
    config = copy.copy(build_llama(tied=False).config)
    config.vocab_size = vocabulary
    model = LlamaForCausalLM(config)
    num_labels = int((rows.labels_BT[:, 1:] >= 0).sum())
    largest = {}
    for chunk in (num_labels, 7):
        kept: list[int] = []
        monkeypatch.setattr("train.loss.labels_per_chunk", lambda vocabulary, chunk=chunk: chunk)

        def keep(tensor: torch.Tensor, kept: list[int] = kept) -> torch.Tensor:
            if tensor.shape[-1:] == (vocabulary,):
                kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            LabelledLoss(model)(rows.input_ids_BT, rows.labels_BT, rows.position_ids_BT)
        largest[chunk] = max(kept, default=0)
    assert largest == {num_labels: num_labels * vocabulary, 7: 0}  # computed again chunk by chunk


@pytest.mark.parametrize(("vocabulary", "labels"), [(0, 1 << 26), (400, 167772), (32000, 2097)])
def test_a_chunk_has_as_many_labels_as_its_bytes_allow(vocabulary: int, labels: int) -> None:
    assert labels_per_chunk(vocabulary) == labels
    assert labels_per_chunk(10_000_000) == 256


def test_a_batch_without_a_label_is_survived(build_llama: BuildLlama) -> None:
    batch = build_batch([[encoded([3, 4], 2)]], seq_len=4)
    assert fit_losses(build_llama(), itertools.repeat(batch), num_steps=1) == [0.0]


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(
    build_llama: BuildLlama, examples: list[Encoded]
) -> None:
    model = build_llama()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = float("inf")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(FloatingPointError, match=r"step 1 of 12.*still those of step 0"):
        fit_losses(model, batches_of(examples))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_muon_takes_the_matrices_and_adamw_the_embeddings_and_vectors(
    build_llama: BuildLlama,
) -> None:
    model = build_llama(tied=False)
    muon, adamw = build_optimizers(model, optimizer="muon", learning_rate=1e-3)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [
        {names[id(p)] for group in optimizer.param_groups for p in group["params"]}
        for optimizer in (muon, adamw)
    ]
    assert groups[0] | groups[1] == set(names.values()) and not groups[0] & groups[1]
    assert all("proj" in name for name in groups[0])
    assert {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"} <= groups[1]


def test_cosine_warms_up_and_falls_to_zero() -> None:
    schedule = Schedule(learning_rate=2.0, num_steps=100, warmup_fraction=0.1)
    rates = [learning_rate_at(schedule, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2) and rates[9] == rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True) and 0.0 < rates[99] < 0.01


def test_linear_decay_keeps_a_plateau_before_it() -> None:
    schedule = Schedule(
        learning_rate=2.0, num_steps=100, warmup_fraction=0.04, decay="linear", decay_fraction=0.6
    )
    rates = [learning_rate_at(schedule, step) for step in range(100)]
    assert rates[3:41] == [2.0] * 38
    assert rates[70] == pytest.approx(1.0) and rates[99] == pytest.approx(2.0 / 60)


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, model_dir: Path, dataset_dir: Path
) -> tuple[Path, TrainedStudent]:
    """The folder of a finished training, and what it returned; copy it before you change it."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, run_training(folder, model_dir, dataset_dir)


def test_a_student_comes_out_that_transformers_loads(trained: tuple[Path, TrainedStudent]) -> None:
    folder, student = trained
    losses = read_losses(folder / "metrics.jsonl")
    assert len(losses) == student.num_steps == 8 and losses[-1] < losses[0] - 0.5
    assert student.num_examples == 60 and student.fill > 0.8
    model = AutoModelForCausalLM.from_pretrained(folder / "student")
    assert model.dtype == torch.bfloat16
    AutoTokenizer.from_pretrained(folder / "student")
    assert not (folder / "student.training").exists()


def test_the_trained_student_is_what_was_trained(
    trained: tuple[Path, TrainedStudent], model_dir: Path, dataset_dir: Path
) -> None:
    folder, _ = trained
    examples = load_examples(dataset_dir, prompts="erased", model_dir=model_dir)
    packing = pack(examples.lengths_E, seq_len=512, seed=5)
    rows = PackedExamples(examples=examples, packing=packing)
    batch = next(packed_batches([rows], rows_per_step=4, seed=5, start_step=8))
    losses = []
    for directory in (model_dir, folder / "student"):
        loss = LabelledLoss(AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32))
        [each] = batch.passes
        total = loss(each.input_ids_BT, each.labels_BT, each.position_ids_BT)
        losses.append(total.item() / batch.num_labelled_tokens)
    assert losses[1] == pytest.approx(read_losses(folder / "metrics.jsonl")[-1], abs=0.4)
    assert losses[1] < losses[0] - 0.5


def test_a_finished_student_is_not_trained_again(
    trained: tuple[Path, TrainedStudent], tmp_path: Path, model_dir: Path, dataset_dir: Path
) -> None:
    folder, first = trained
    shutil.copytree(folder / "student", tmp_path / "student")
    assert run_training(tmp_path, model_dir, dataset_dir) == first
    assert not (tmp_path / "metrics.jsonl").exists()
    run_training(tmp_path, model_dir, dataset_dir, plan=replace(PLAN, seed=6))
    assert (tmp_path / "metrics.jsonl").exists()


@contextmanager
def killed_in_step(
    step: int,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[torch.optim.Optimizer] = torch.optim.AdamW,
) -> Iterator[None]:
    """Training ends in the middle of this step's update by an optimizer of this kind."""
    real, steps = kind.step, itertools.count(1)

    def step_until_killed(self: torch.optim.Optimizer, closure: None = None) -> None:
        if next(steps) == step:
            raise KeyboardInterrupt
        real(self, closure)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(kind, "step", step_until_killed)
        yield


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_killed_run_goes_on_with_the_same_loss_curve(
    tmp_path: Path,
    model_dir: Path,
    dataset_dir: Path,
    optimizer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = replace(PLAN, optimizer=optimizer)
    run_training(tmp_path / "whole", model_dir, dataset_dir, plan=plan)
    with killed_in_step(6, monkeypatch):
        run_training(tmp_path / "killed", model_dir, dataset_dir, plan=plan, save_every_steps=2)
    assert len(read_losses(tmp_path / "killed/metrics.jsonl")) == 5
    run_training(tmp_path / "killed", model_dir, dataset_dir, plan=plan, save_every_steps=2)
    assert read_losses(tmp_path / "killed/metrics.jsonl") == pytest.approx(
        read_losses(tmp_path / "whole/metrics.jsonl"), rel=1e-6
    )
    weights = [(tmp_path / run / "student/model.safetensors") for run in ("whole", "killed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


CONFIG = """
run_dir = "{run_dir}"
[[tasks]]
name = "sums"
format = "jsonl"
path = "{tasks}"
answer_type = "numeric"
[student]
model = "{model_dir}"
[teacher]
model = "{model_dir}"
[training]
seq_len = 512
rows_per_step = 4
num_steps = 8
learning_rate = 3e-3
optimizer = "{optimizer}"
dtype = "float32"
save_every_steps = 2
"""


def write_config(folder: Path, model_dir: Path, dataset_dir: Path, optimizer: str) -> Path:
    folder.mkdir()
    shutil.copytree(dataset_dir, folder / "run/dataset")
    (folder / "tasks.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    (folder / "run.toml").write_text(
        CONFIG.format(
            run_dir=folder / "run",
            tasks=folder / "tasks.jsonl",
            model_dir=model_dir,
            optimizer=optimizer,
        )
    )
    return folder / "run.toml"


def torchrun(ranks: int, config_file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={ranks}", "-m", "train.sft", str(config_file)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def kill_with_ranks(launched: subprocess.Popen[str]) -> None:
    """Kills torchrun and its ranks, which outlive it if it is killed alone."""
    for process in [psutil.Process(launched.pid), *psutil.Process(launched.pid).children(True)]:
        process.kill()
    launched.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_ranks_go_on_where_one_was_killed_with_the_same_loss_curve(
    tmp_path: Path,
    model_dir: Path,
    dataset_dir: Path,
    optimizer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = write_config(tmp_path / "whole", model_dir, dataset_dir, optimizer)
    train_from_config(load_config(whole))
    killed = write_config(tmp_path / "killed", model_dir, dataset_dir, optimizer)
    with killed_in_step(3, monkeypatch):
        train_from_config(load_config(killed))
    launched = torchrun(2, killed)
    launched.communicate()
    assert launched.returncode == 0
    assert read_losses(tmp_path / "killed/run/metrics.jsonl") == pytest.approx(
        read_losses(tmp_path / "whole/run/metrics.jsonl"), rel=1e-3
    )


@pytest.mark.slow
def test_one_rank_goes_on_where_two_were_killed_with_the_same_loss_curve(
    tmp_path: Path, model_dir: Path, dataset_dir: Path
) -> None:
    whole = write_config(tmp_path / "whole", model_dir, dataset_dir, "adamw")
    train_from_config(load_config(whole))
    killed = write_config(tmp_path / "killed", model_dir, dataset_dir, "adamw")
    launched = torchrun(2, killed)
    while not list(tmp_path.glob("killed/run/student.training/step-*")):
        assert launched.poll() is None
        time.sleep(0.01)
    kill_with_ranks(launched)
    assert not (tmp_path / "killed/run/student").exists()
    train_from_config(load_config(killed))
    assert read_losses(tmp_path / "killed/run/metrics.jsonl") == pytest.approx(
        read_losses(tmp_path / "whole/run/metrics.jsonl"), rel=1e-3
    )


def test_a_training_that_was_taken_over_finds_out_and_writes_no_more(tmp_path: Path) -> None:
    with only_trainer(tmp_path) as fence:
        fence()
        (tmp_path / "other").write_text("{}")
        os.replace(tmp_path / "other", tmp_path / "driver.lock")
        with pytest.raises(RunInUse, match="taken over by another driver"):
            fence()


@pytest.mark.parametrize("save_every_steps", [3, 8, 1000])
def test_the_last_state_is_there_should_writing_the_student_fail(
    tmp_path: Path,
    model_dir: Path,
    dataset_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    save_every_steps: int,
) -> None:
    def full(*arguments: object, **keywords: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("train.sft.save_student", full)
        with pytest.raises(OSError, match="No space left"):
            run_training(tmp_path, model_dir, dataset_dir, save_every_steps=save_every_steps)
    assert (tmp_path / "student.training" / "step-00000008" / "state.json").is_file()
    student = run_training(tmp_path, model_dir, dataset_dir, save_every_steps=save_every_steps)
    assert student.num_steps == 8 and not (tmp_path / "student.training").exists()


def test_states_that_a_kill_left_beside_a_whole_student_are_removed(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("train.sft.remove_states", lambda state: None)
        made = run_training(tmp_path, model_dir, dataset_dir, save_every_steps=4)
    assert list((tmp_path / "student.training").glob("step-*"))
    assert run_training(tmp_path, model_dir, dataset_dir, save_every_steps=4) == made
    assert not (tmp_path / "student.training").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), "the GPU of rank 0 on"),
        (MemoryError(), "rank 0 on .* got no more memory of the host"),
    ],
)
def test_a_rank_without_memory_says_what_to_do_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    said: str,
) -> None:
    def out_of_memory(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("train.sft.load_config", out_of_memory)
    assert main([str(tmp_path / "run.toml")]) == FAILED
    [line] = capsys.readouterr().err.splitlines()
    assert re.search(said, line) and "use " in line


def test_a_config_error_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "train.sft", str(tmp_path / "absent.toml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("Error: config") and ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "body", ["a diary\n", '{"step": 1}\nnot json\n', "[]\n", '{"step": "1"}\n', "[" * 99999 + "\n"]
)
def test_metrics_that_training_did_not_write_are_refused_and_kept(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, body: str
) -> None:
    config = write_config(tmp_path / "here", model_dir, dataset_dir, "adamw")
    metrics = tmp_path / "here/run/metrics.jsonl"
    metrics.write_text(body)
    with pytest.raises(DamagedFile, match=r"metrics\.jsonl: line . holds no metrics of a step"):
        train_from_config(load_config(config))
    assert metrics.read_text() == body


def test_states_are_not_written_into_a_directory_that_holds_something_else(
    tmp_path: Path, model_dir: Path, dataset_dir: Path
) -> None:
    config = write_config(tmp_path / "here", model_dir, dataset_dir, "adamw")
    theirs = tmp_path / "here/run/student.training/diary.txt"
    theirs.parent.mkdir()
    theirs.write_text("mine")
    with pytest.raises(ValueError, match=r"holds 'diary\.txt', which training did not make"):
        train_from_config(load_config(config))
    assert theirs.read_text() == "mine"


def test_a_training_that_another_process_carries_out_is_refused(
    tmp_path: Path, model_dir: Path, dataset_dir: Path
) -> None:
    config = write_config(tmp_path / "here", model_dir, dataset_dir, "adamw")
    with (
        run_lock(tmp_path / "here/run/student.training"),
        pytest.raises(RunInUse, match=r"student\.training"),
    ):
        train_from_config(load_config(config))
    train_from_config(load_config(config))
    assert not (tmp_path / "here/run/student.training").exists()


def test_a_state_beyond_the_last_step_is_refused(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path / "here", model_dir, dataset_dir, "adamw")
    with killed_in_step(3, monkeypatch):
        train_from_config(load_config(config))
    states = tmp_path / "here/run/student.training"
    (states / "step-00000002").rename(states / "step-00000099")
    record = states / "step-00000099/state.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"step": 99}))
    with pytest.raises(DamagedFile, match="holds step 99 of a training of 8 steps"):
        train_from_config(load_config(config))
