"""A dataset directory in, a trained student out.

Run it with

    torchrun --nproc-per-node 2 -m train.sft CONFIG [--set KEY=VALUE ...]
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

import torch
import transformers
from pydantic import TypeAdapter

from orca2_gen.config.load import engine_directory, load_config
from orca2_gen.config.schema import Config
from orca2_gen.exit_codes import FAILED, exit_code
from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.digests import model_digest
from orca2_gen.run_directory.json_files import parsed
from orca2_gen.run_directory.lock import run_lock
from train.batches import packed_batches
from train.checkpoint import (
    TRAINING_RECORD,
    TrainingState,
    check_replaceable,
    check_states,
    load_state,
    read_training_record,
    remove_states,
    save_state,
    save_student,
)
from train.examples import ExampleTable, load_examples
from train.fit import fit
from train.model import check_examples_fit, load_sharded
from train.optimizers import Schedule, build_optimizers
from train.packing import Packing, pack
from train.progress import check_metrics, step_log
from train.ranks import joined_ranks, rank, world_size


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPlan:
    """The settings of a training; equal plans on equal data give equal loss curves."""

    seq_len: int
    rows_per_step: int
    """Packed rows of one optimizer step, over all ranks."""
    num_epochs: int
    num_steps: int | None = None
    """Overrides num_epochs."""
    learning_rate: float
    warmup_fraction: float
    optimizer: Literal["adamw", "muon"]
    weight_decay: float
    max_grad_norm: float
    dtype: Literal["bfloat16", "float32"]
    seed: int
    max_rows_per_task: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """The settings of carrying out a plan; no result depends on them beyond rounding."""

    rows_per_forward: int | None = None
    """Rows of one forward and backward pass on a rank; None is all rows of its step."""
    gradient_checkpointing: bool = False
    save_every_steps: int | None = None
    """Steps between states to resume from; None saves one, when the loop is done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedStudent:
    """The figures of a training."""

    num_steps: int
    num_examples: int
    num_rows: int
    fill: float
    """Tokens over slots in the packed rows."""


def train_student(
    plan: TrainingPlan,
    execution: Execution,
    *,
    model_dir: Path,
    dataset_dir: Path,
    output_dir: Path,
    metrics_file: Path,
    prompts: str,
) -> TrainedStudent:
    """Trains `model_dir` on a dataset directory and writes the student to `output_dir`.

    Every rank calls it. A student that exists and was made of the same is returned as it is; a run
    that was killed continues from its last complete state in `OUTPUT_DIR.training`.

    Args:
        plan: the settings that determine the result.
        execution: the settings that do not.
        model_dir: the model to start from.
        dataset_dir: holds a manifest beside its Arrow files.
        output_dir: the student appears there when all of it is written.
        metrics_file: gets a JSON line per step.
        prompts: the manifest's required prompts: erased, instruction_kept or foreign.

    Raises:
        ValueError: dataset, model and plan do not fit, or other files lie where it writes.
        RunInUse: another process trains the same output.
        FloatingPointError: the loss is not finite.
    """
    states = output_dir.with_name(output_dir.name + ".training")
    check_replaceable(output_dir)
    check_states(states)
    check_metrics(metrics_file)
    examples = load_examples(
        dataset_dir,
        prompts=prompts,
        model_dir=model_dir,
        max_rows_per_task=plan.max_rows_per_task,
    )
    check_examples_fit(model_dir, longest=max(examples.lengths), largest_id=examples.largest_id)
    determinants = {
        "plan": asdict(plan),
        "dataset": examples.digest,
        "model": model_digest(model_dir),
    }
    done = read_training_record(output_dir)
    if done is not None and done.get("determinants") == determinants:
        return parsed(output_dir / TRAINING_RECORD, done.get("student"), _STUDENT)
    packing = pack(examples.lengths, seq_len=plan.seq_len, seed=plan.seed, names=examples.names)
    # Two trainings of one output would write each other's states.
    with run_lock(states) if rank() == 0 else nullcontext():
        torch.manual_seed(plan.seed)
        loss = load_sharded(
            model_dir,
            dtype=getattr(torch, plan.dtype),
            gradient_checkpointing=execution.gradient_checkpointing,
        )
        optimizers = build_optimizers(
            loss.model,
            optimizer=plan.optimizer,
            learning_rate=plan.learning_rate,
            weight_decay=plan.weight_decay,
        )
        state = TrainingState(
            directory=states, module=loss, optimizers=optimizers, determinants=determinants
        )
        student = _fit_packed(plan, execution, state, examples, packing, metrics_file)
        save_student(
            loss.model,
            model_dir=model_dir,
            output_dir=output_dir,
            record={"determinants": determinants, "student": asdict(student)},
        )
        remove_states(state)
    return student


_STUDENT = TypeAdapter(TrainedStudent)


def _fit_packed(
    plan: TrainingPlan,
    execution: Execution,
    state: TrainingState,
    examples: ExampleTable,
    packing: Packing,
    metrics_file: Path,
) -> TrainedStudent:
    """Runs the loop to its end, from the last complete state."""
    num_rows = len(packing.rows)
    num_steps = plan.num_steps or math.ceil(num_rows * plan.num_epochs / plan.rows_per_step)
    start_step = load_state(state)
    if start_step > num_steps:
        raise DamagedFile(
            f"{state.directory} holds step {start_step} of a training of {num_steps} steps; remove "
            f"it to start the training again"
        )
    every = execution.save_every_steps or num_steps
    batches = packed_batches(
        examples,
        packing,
        rows_per_step=plan.rows_per_step,
        seed=plan.seed,
        start_step=start_step,
        rank=rank(),
        world_size=world_size(),
    )
    schedule = Schedule(
        learning_rate=plan.learning_rate,
        num_steps=num_steps,
        warmup_fraction=plan.warmup_fraction,
    )

    def save(step: int) -> None:
        if step % every == 0:
            save_state(state, step)

    rank_0_log = step_log(metrics_file, num_steps=num_steps, start_step=start_step)
    with rank_0_log if rank() == 0 else nullcontext(lambda metrics: None) as log:
        fit(
            state.module,
            batches,
            state.optimizers,
            schedule,
            max_grad_norm=plan.max_grad_norm,
            start_step=start_step,
            rows_per_forward=execution.rows_per_forward,
            log=log,
            save=save,
        )
    return TrainedStudent(
        num_steps=num_steps,
        num_examples=len(examples.lengths),
        num_rows=num_rows,
        fill=packing.fill,
    )


def _names(record: type) -> set[str]:
    """The fields of a record, which are keys of the training section."""
    return {field.name for field in fields(record)}


def train_from_config(config: Config) -> TrainedStudent:
    """Trains as the config's training section says, on the run's dataset; see `train_student`."""
    training, run_dir = config.training, Path(config.run_dir)
    return train_student(
        TrainingPlan(**training.model_dump(include=_names(TrainingPlan))),
        Execution(**training.model_dump(include=_names(Execution))),
        model_dir=Path(training.model or engine_directory(config.student)),
        dataset_dir=run_dir / "dataset",
        output_dir=Path(training.output or run_dir / "student"),
        # Several students of one run each keep their own curve.
        metrics_file=(
            Path(f"{training.output}.metrics.jsonl")
            if training.output
            else run_dir / "metrics.jsonl"
        ),
        prompts=training.prompts,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of training one config file: 0 done, 1 stopped or damaged, 2 refused."""
    parser = argparse.ArgumentParser(
        prog="train.sft", description="Train a student on a run's dataset."
    )
    parser.add_argument("config", type=Path, help="the run's TOML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    options = parser.parse_args(arguments)
    transformers.utils.logging.disable_progress_bar()  # they would clash with ours on stderr
    transformers.utils.logging.set_verbosity_error()  # what matters of its reports is our own line
    try:
        config = load_config(options.config, options.overrides)
        with joined_ranks():
            student = train_from_config(config)
            if rank() == 0:
                print(
                    f"{student.num_steps} steps on {student.num_examples} examples in "
                    f"{student.num_rows} rows of {config.training.seq_len} tokens, "
                    f"fill {student.fill:.3f}"
                )
    except (ValueError, FloatingPointError, OSError) as error:
        # transformers explains a file that it cannot read in several lines.
        print(f"Error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return exit_code(error) or FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
