"""A small dataset of the microworld, and what this project's own trainer says of its rows."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from orca2_gen.chat import Chat, load_chat
from orca2_gen.dataset.manifest import read_manifest
from orca2_gen.dataset.write import DatasetPlan, write_dataset
from orca2_gen.erasure import erase
from orca2_gen.microworld.instructions import microworld_strategies
from orca2_gen.rationales import Asking, teach
from orca2_gen.records import Example, Problem, Rationale
from orca2_gen.run_directory.arrow_files import write_records
from orca2_gen.scripted_engine import ScriptedEngine, planted_script
from orca2_gen.tasks.read import read_task
from orca2_gen.tasks.source import TaskSource
from train.batches import Encoded, build_batch
from train.examples import ExampleTable, load_examples
from train.model import load_sharded

MICROWORLD = Path(__file__).parents[2] / "orca2_gen" / "microworld"
STUDENT, TEACHER = MICROWORLD / "student", MICROWORLD / "teacher"
TASKS = ("add", "compare", "reverse", "river", "emblem", "codesum")
STRATEGY = "step_by_step"
MOST_TOKENS = 512
"""The student's context."""


def make_dataset(run_dir: Path, rows_per_task: int) -> Path:
    """RUN/dataset: the teacher's answers, scripted, to the first problems of each task, erased."""
    strategies, student = microworld_strategies(), load_chat(str(STUDENT))
    examples = []
    for rationale in asyncio.run(_taught(load_chat(str(TEACHER)), rows_per_task)):
        example = erase(
            rationale, chat=student, strategies=strategies, prompts="erased", max_tokens=MOST_TOKENS
        )
        assert isinstance(example, Example), example
        examples.append(example)
    entry = write_records(run_dir, "examples/foreign.arrow", examples, Example)
    plan = DatasetPlan(
        examples=(entry,),
        tokenizer=str(STUDENT),
        prompts="erased",
        examples_per_shard=max(1, len(examples) // 2),  # two shards, so that their order counts
        key="foreign",
        name="foreign",
    )
    return Path(write_dataset(run_dir, plan, student, strategies).directory)


async def _taught(teacher: Chat, rows_per_task: int) -> list[Rationale]:
    problems: dict[str, Problem] = {}
    for task in TASKS:
        path = MICROWORLD / "tasks" / f"{task}.train.jsonl"
        source = TaskSource(name=task, format="jsonl", path=path, split="train")
        for row in itertools.islice(read_task(source).rows, rows_per_task):
            assert isinstance(row, Problem), row
            problems[row.problem_id] = row
    script = planted_script(problems, {STRATEGY: 1.0}, 0, teacher.tokenizer.decode)
    asking = Asking(
        max_tokens=128,
        max_model_len=MOST_TOKENS,
        max_attempts=1,
        temperature=0.0,
        top_p=1.0,
        verify=True,
        run_seed=0,
    )
    engine = ScriptedEngine(teacher, script)
    taught = [
        await teach(
            problem,
            STRATEGY,
            engine=engine,
            chat=teacher,
            strategies=microworld_strategies(),
            asking=asking,
        )
        for problem in problems.values()
    ]
    return [row for each in taught for row in each.rationales]


class OwnTrainer:
    """This project's trainer, asked for the loss of rows that another one trained first."""

    def __init__(self, dataset: Path, model: Path) -> None:
        manifest = read_manifest(dataset)
        self.rows: ExampleTable = load_examples(dataset, prompts=manifest.prompts, model_dir=model)
        self.trained_tokens = sum(self.rows[row].num_labels for row in range(len(self.rows)))
        if manifest.summary is not None:
            assert self.trained_tokens == manifest.summary.trained_tokens
        self._places = {
            tuple(self.rows[row].input_ids.tolist()): row for row in range(len(self.rows))
        }
        self._loss = load_sharded(model, dtype=torch.float32).loss

    def places(self, rows: Sequence[Sequence[int]]) -> list[int]:
        """The places in the dataset of rows of token ids, but for those it does not hold."""
        found = [self._places.get(tuple(ids)) for ids in rows]
        return [place for place in found if place is not None]

    def labels(self, place: int) -> list[int]:
        """The labels of a row: its ids, and IGNORE_INDEX over the prompt."""
        labels: list[int] = self.rows[place].labels.tolist()
        return labels

    def mean_loss(self, places: Sequence[int], tails: Sequence[Sequence[int]] = ()) -> float:
        """The mean loss per trained token of these rows in one step, before any update.

        Each row is followed by its tail, if there are tails, which is trained too.
        """
        rows = []
        for place, tail in zip(places, tails or [()] * len(places), strict=True):
            row = self.rows[place]
            more = np.array(tail, row.input_ids.dtype)
            ids, labels = (np.concatenate([each, more]) for each in (row.input_ids, row.labels))
            rows.append([Encoded(input_ids=ids, labels=labels)])
        batch = build_batch(rows, max(len(row.input_ids) for [row] in rows))
        with torch.no_grad():
            [each] = batch.passes
            summed = self._loss(each.input_ids_BT, each.labels_BT, each.position_ids_BT)
        return float(summed) / batch.num_labelled_tokens
