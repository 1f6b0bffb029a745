"""A dataset directory in, a trained student out.

Run it with

    torchrun --nproc-per-node 2 -m train.sft CONFIG [--set KEY=VALUE ...]
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from pydantic import TypeAdapter

from orca2_gen.config.load import engine_directory, load_config
from orca2_gen.config.schema import Config
from orca2_gen.exit_codes import FAILED, INTERRUPTED, exit_code
from orca2_gen.run_directory.digests import model_digest
from orca2_gen.run_directory.json_files import parsed
from train.checkpoint import TrainingState, check_states, load_state, remove_states
from train.examples import ExampleTable
from train.extras import check_extras
from train.failures import leave, said_of_lost_rank
from train.flops import training_flops
from train.held_out import HeldOut, held_out
from train.layouts import Layout
from train.loop import Loop
from train.lora import lora_of
from train.loss import LabelledLoss
from train.memory import memory_line, out_of_memory_line
from train.model import load_sharded
from train.model_directory import check_examples_fit
from train.optimizers import build_optimizers
from train.pace import Pace, listening
from train.plan import Execution, TrainingPlan, execution_of, training_plan
from train.progress import check_metrics
from train.ranks import is_first_to_say, joined_ranks, on_first_rank, rank
from train.stages import (
    Stage,
    determinants,
    examples_in,
    load_tables,
    opening_lines,
    packed_stages,
)
from train.student import TRAINING_RECORD, check_replaceable, read_training_record, save_student
from train.trainer_lock import only_trainer, remove_left_states


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
    may_change: bool = False,
    stop: threading.Event | None = None,
) -> TrainedStudent:
    """Trains `model_dir` on a dataset directory and writes the student to `output_dir`.

    Every rank calls it. A student that exists and was made of the same is returned as it is; a run
    that was killed continues from its last complete state in `OUTPUT_DIR.training`.

    Args:
        plan: the settings that determine the result.
        execution: the settings that do not.
        model_dir: the model to start from.
        dataset_dir: holds a manifest beside its Arrow files; for stages that name no other.
        output_dir: the student appears there when all of it is written.
        metrics_file: gets a JSON line per step.
        prompts: the manifests' required prompts: erased, instruction_kept or foreign.
        may_change: whether a state is continued though the plan differs in what may change.
        stop: once it is set, training saves its state and ends.

    Raises:
        ValueError: dataset, model and plan do not fit, or other files lie where it writes.
        RunInUse: another process trains the same output.
        FloatingPointError: the loss is not finite; the state before it is saved.
        KeyboardInterrupt: `stop` was set; the state is saved.
    """
    states = output_dir.with_name(output_dir.name + ".training")
    check_replaceable(output_dir)
    check_states(states)
    check_metrics(metrics_file)
    check_extras(plan, execution)
    stage_plans = plan.stages_on(dataset_dir)
    tables = load_tables(plan, stage_plans, prompts=prompts, model_dir=model_dir)
    others = None
    if execution.eval_dataset is not None:
        others = examples_in(
            Path(execution.eval_dataset),
            prompts=prompts,
            model_dir=model_dir,
            max_rows_per_task={},
        )
    read = [*tables.values(), *([others] if others is not None else [])]
    lengths = np.concatenate([table.lengths_E for table in read])
    if plan.too_long == "drop":
        lengths = lengths[lengths <= plan.seq_len]
    longest = int(lengths.max(initial=0))
    largest_id = max(table.largest_id for table in read)
    check_examples_fit(model_dir, longest=longest, largest_id=largest_id)
    determined_by = determinants(plan, stage_plans, tables, model_digest(model_dir))
    done = on_first_rank(lambda: read_training_record(output_dir))
    if done is not None and done.get("determinants") == json.loads(json.dumps(determined_by)):
        on_first_rank(lambda: remove_left_states(states))
        return parsed(output_dir / TRAINING_RECORD, done.get("student"), _STUDENT)
    stages = packed_stages(plan, stage_plans, tables)
    if (line := memory_line(plan, execution, model_dir)) and rank() == 0:
        print(line, file=sys.stderr, flush=True)
    with only_trainer(states) as fence:
        torch.manual_seed(plan.seed)
        loaded = load_sharded(
            model_dir,
            dtype=getattr(torch, plan.dtype),
            gradient_checkpointing=execution.gradient_checkpointing,
            sharding=execution.sharding,
            longest=longest,
            row_tokens=plan.seq_len,
            lora=lora_of(plan),
        )
        if rank() == 0:
            for line in opening_lines(plan, tables, stages, loaded.isolation):
                print(line, file=sys.stderr, flush=True)
        flops = training_flops(loaded.loss.model)
        optimizers = _optimizers(loaded.loss, plan)
        state = TrainingState(
            directory=states,
            module=loaded.loss,
            optimizers=optimizers,
            determinants=determined_by,
            fence=fence,
            keep=execution.keep_states,
            stage_steps=tuple(stage.num_steps for stage in stages),
        )
        start_step = load_state(state, may_change=may_change)
        loop = Loop(
            plan=plan,
            execution=execution,
            stages=stages,
            isolation=loaded.isolation,
            state=state,
            pace=Pace(execution.save_every_steps, stop),
            flops=flops,
            held_out=_held_out(others, plan, execution, loaded.isolation.layout),
        )
        loop.run(start_step, metrics_file)
        student = _trained(stages)
        fence()
        save_student(
            loaded.loss.model,
            model_dir=model_dir,
            output_dir=output_dir,
            record={
                "determinants": determined_by,
                "student": asdict(student),
                "changes": state.changes,
            },
        )
        remove_states(state)
    return student


_STUDENT = TypeAdapter(TrainedStudent)


def _held_out(
    table: ExampleTable | None, plan: TrainingPlan, execution: Execution, layout: Layout
) -> HeldOut | None:
    if table is None:
        return None
    return held_out(
        table,
        seq_len=plan.seq_len,
        too_long=plan.too_long,
        layout=layout,
        rows_per_forward=execution.rows_per_forward,
    )


def _optimizers(loss: LabelledLoss, plan: TrainingPlan) -> list[torch.optim.Optimizer]:
    return build_optimizers(
        loss.model,
        optimizer=plan.optimizer,
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        moments_dtype=getattr(torch, plan.moments_dtype),
    )


def _trained(stages: Sequence[Stage]) -> TrainedStudent:
    packings = {id(part.packing): part.packing for stage in stages for part in stage.mixture}
    slots = sum(len(packing.rows) * packing.seq_len for packing in packings.values())
    return TrainedStudent(
        num_steps=stages[-1].end_step,
        num_examples=sum(len(row) for packing in packings.values() for row in packing.rows),
        num_rows=sum(len(packing.rows) for packing in packings.values()),
        fill=sum(packing.num_tokens for packing in packings.values()) / slots,
    )


def train_from_config(
    config: Config, *, may_change: bool = False, stop: threading.Event | None = None
) -> TrainedStudent:
    """Trains as the config's training section says, on the run's dataset; see `train_student`."""
    training, run_dir = config.training, Path(config.run_dir)
    return train_student(
        training_plan(training),
        execution_of(training),
        model_dir=Path(training.model or engine_directory(config.student)),
        dataset_dir=Path(training.dataset or run_dir / "dataset"),
        output_dir=Path(training.output or run_dir / "student"),
        # Several students of one run each keep their own curve.
        metrics_file=Path(f"{training.output}.metrics.jsonl")
        if training.output
        else run_dir / "metrics.jsonl",
        prompts=training.prompts,
        may_change=may_change,
        stop=stop,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of training a config file: 0 done, 1 failed, 2 refused, 75 saved and ended."""
    parser = argparse.ArgumentParser(prog="train.sft", description="Train on a run's dataset.")
    parser.add_argument("config", type=Path, help="the run's TOML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument(
        "--override",
        action="store_true",
        help="go on from a state though learning rate, schedule, epochs or clipping differ",
    )
    options = parser.parse_args(arguments)
    transformers.utils.logging.disable_progress_bar()  # they would clash with ours on stderr
    transformers.utils.logging.set_verbosity_error()  # what matters of its reports is our own line
    with listening() as stop, joined_ranks(stop):
        if code := _code_of(options, stop):
            leave(code)
    return code


def _code_of(options: argparse.Namespace, stop: threading.Event) -> int:
    """The exit code of this rank, which has said why where it is not 0."""
    try:
        config = load_config(options.config, options.overrides)
        student = train_from_config(config, may_change=options.override, stop=stop)
    except KeyboardInterrupt as error:
        _say(f"Interrupted: {error or 'nothing was saved'}")
        return INTERRUPTED
    except (ValueError, FloatingPointError, OSError) as error:
        # transformers explains a file that it cannot read in several lines.
        _say(f"Error: {' '.join(str(error).split())}")
        return exit_code(error) or FAILED
    except (torch.OutOfMemoryError, MemoryError) as error:
        _say(f"Error: {out_of_memory_line(error)}")
        return FAILED
    except Exception as error:
        if not said_of_lost_rank(error, rank()):
            traceback.print_exc()
        return FAILED
    if rank() == 0:
        print(
            f"{student.num_steps} steps on {student.num_examples} examples in "
            f"{student.num_rows} rows of {config.training.seq_len} tokens, "
            f"fill {student.fill:.3f}"
        )
    return 0


def _say(line: str) -> None:
    if is_first_to_say(line):
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
