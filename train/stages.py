"""The stages of a training with their data: examples, packed rows, and the steps of each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.batches import PackedExamples, stream_rows
from train.examples import ExampleTable, load_examples
from train.foreign_examples import load_foreign_examples
from train.isolation import Isolation
from train.packing import Packing, pack
from train.plan import StagePlan, TrainingPlan

FEW_STEPS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of a training, and where it lies among all steps."""

    plan: StagePlan
    tables: tuple[ExampleTable, ...]
    mixture: tuple[PackedExamples, ...]
    """The rows of each table."""
    seed: int
    """Seed of the order of rows."""
    first_step: int
    """Steps of the stages before."""
    num_steps: int

    @property
    def end_step(self) -> int:
        """Steps when the stage is done."""
        return self.first_step + self.num_steps

    def names_in(self, step: int, rows_per_step: int) -> list[str]:
        """The names of the examples of a step, counted from 1 over all stages, on all ranks."""
        first = (step - 1 - self.first_step) * rows_per_step
        return [
            self.tables[place].name(index)
            for place, row in stream_rows(first, rows_per_step, self.mixture, seed=self.seed)
            for index in self.mixture[place].packing.rows[row]
        ]


def load_tables(
    plan: TrainingPlan, stages: Sequence[StagePlan], *, prompts: str, model_dir: Path
) -> dict[Path, ExampleTable]:
    """The examples of each dataset of the stages, by its directory.

    Raises:
        ValueError: see `load_examples`.
    """
    paths = dict.fromkeys(each.path for stage in stages for each in stage.datasets)
    # Rows of a task are counted over one dataset: the only one, if there is one.
    limits = plan.max_rows_per_task if len(paths) == 1 else {}
    if plan.max_rows_per_task and not limits:
        raise ValueError(
            f"training.max_rows_per_task counts the rows of one dataset, and the stages have "
            f"{len(paths)}; give a stage's dataset a weight below 1 instead"
        )
    return {
        path: examples_in(path, prompts=prompts, model_dir=model_dir, max_rows_per_task=limits)
        for path in paths
    }


def examples_in(
    path: Path, *, prompts: str, model_dir: Path, max_rows_per_task: Mapping[str, int]
) -> ExampleTable:
    """The examples of a dataset directory, with a manifest or, if they are foreign, without.

    Raises:
        ValueError: see `load_examples` and `load_foreign_examples`.
    """
    if prompts == "foreign" and not (path / "manifest.json").exists():
        if max_rows_per_task:
            raise ValueError(
                f"training.max_rows_per_task counts rows of datasets with a manifest, and {path} "
                "has none; leave the key out"
            )
        return load_foreign_examples(path)
    return load_examples(
        path, prompts=prompts, model_dir=model_dir, max_rows_per_task=max_rows_per_task
    )


def packed_stages(
    plan: TrainingPlan, stages: Sequence[StagePlan], tables: Mapping[Path, ExampleTable]
) -> tuple[Stage, ...]:
    """The stages with their packed rows.

    Raises:
        ValueError: an example is longer than a row and may not be dropped, or all are.
    """
    rows = {path: _packed(plan, path, table) for path, table in tables.items()}
    made: list[Stage] = []
    for index, stage in enumerate(stages):
        mixture = tuple(
            PackedExamples(
                examples=tables[each.path],
                packing=rows[each.path],
                weight=each.weight,
                lengths=tables[each.path].lengths_E,
            )
            for each in stage.datasets
        )
        num_rows = sum(part.rows_per_epoch for part in mixture)
        made.append(
            Stage(
                plan=stage,
                tables=tuple(tables[each.path] for each in stage.datasets),
                mixture=mixture,
                seed=_seed(plan.seed, index),
                first_step=made[-1].end_step if made else 0,
                num_steps=stage.num_steps
                or math.ceil(num_rows * stage.num_epochs / plan.rows_per_step),
            )
        )
    return tuple(made)


def _packed(plan: TrainingPlan, path: Path, table: ExampleTable) -> Packing:
    """The rows of a dataset's examples; those that may be dropped are in none."""
    if plan.too_long == "refuse":
        return pack(table.lengths_E, seq_len=plan.seq_len, seed=plan.seed, name_of=table.name)
    kept = np.flatnonzero(table.lengths_E <= plan.seq_len)
    if not len(kept):
        raise ValueError(
            f"{path}: every example has more than {plan.seq_len} tokens (seq_len), and too_long is "
            f'"drop"; set seq_len to {table.lengths_E.min()} or more'
        )
    packing = pack(
        table.lengths_E[kept],
        seq_len=plan.seq_len,
        seed=plan.seed,
        name_of=lambda index: table.name(int(kept[index])),
    )
    rows = tuple(tuple(kept[list(row)].tolist()) for row in packing.rows)
    return dataclasses.replace(packing, rows=rows)


def opening_lines(
    plan: TrainingPlan,
    tables: Mapping[Path, ExampleTable],
    stages: Sequence[Stage],
    isolation: Isolation,
) -> list[str]:
    """What people should know of a training before its first step."""
    return [
        *_dropped_lines(plan, tables),
        *_layout_lines(isolation, stages),
        *_few_steps_lines(stages),
    ]


def _dropped_lines(plan: TrainingPlan, tables: Mapping[Path, ExampleTable]) -> list[str]:
    """What is dropped of each dataset."""
    lines = []
    for path, table in tables.items():
        long = np.bincount(table.task_E[table.lengths_E > plan.seq_len], minlength=len(table.tasks))
        if long.any() and plan.too_long == "drop":
            counts = sorted(zip(table.tasks, long.tolist(), strict=True))
            by_task = ", ".join(f"{task} {count}" for task, count in counts if count)
            lines.append(
                f"{path}: {long.sum()} of {len(table)} examples have more than "
                f"{plan.seq_len} tokens (seq_len) and are dropped: {by_task}"
            )
    return lines


def _layout_lines(isolation: Isolation, stages: Sequence[Stage]) -> list[str]:
    """What it costs that examples cannot share a row; nothing if they can."""
    if isolation.layout == "packed":
        return []
    packings = [part.packing for stage in stages for part in stage.mixture]
    examples = sum(len(row) for packing in packings for row in packing.rows)
    each = examples / sum(len(packing.rows) for packing in packings)
    passes = "of one example each, which is slow"
    if isolation.layout == "apart":
        passes = "of examples of like length, as many as rows_per_forward rows would hold"
    return [
        f"{isolation.reason}: a step trains on the same examples, {each:.1f} for each packed row, "
        f"in forward passes {passes}"
    ]


def _few_steps_lines(stages: Sequence[Stage]) -> list[str]:
    """What is odd of a training of few steps."""
    if (num_steps := stages[-1].end_step) >= FEW_STEPS:
        return []
    return [
        f"the training has {num_steps} steps, of which few have the whole learning rate; set "
        "rows_per_step lower or num_epochs higher for more"
    ]


def _seed(seed: int, index: int) -> int:
    """The seed of a stage's order: the training's, and others for the stages after the first."""
    if index == 0:
        return seed
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def determinants(
    plan: TrainingPlan,
    stages: Sequence[StagePlan],
    tables: Mapping[Path, ExampleTable],
    model: str,
) -> dict[str, Any]:
    """All that determines a loss curve, as states and students record it.

    Args:
        plan: the settings.
        stages: its stages.
        tables: the examples of each dataset.
        model: digest of the model that training starts from.
    """
    digests = [[tables[each.path].digest for each in stage.datasets] for stage in stages]
    only = digests[0][0] if not plan.stages else digests
    return {"plan": plan.recorded(), "dataset": only, "model": model}
