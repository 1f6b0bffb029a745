"""Units of examples -> the problems, rationales and selection that a run would make them from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from orca2_gen.dataset.origins import TeacherFacts, UnitOrigin
from orca2_gen.dataset.write import DatasetPlan
from orca2_gen.records import Example, Problem, Rationale, Selection, StrategySummary
from orca2_gen.run_directory.arrow_files import read_records, write_records
from orca2_gen.run_directory.units import UnitName, write_unit
from orca2_gen.strategies import Strategies


def with_origins(run_dir: Path, plan: DatasetPlan, strategies: Strategies) -> DatasetPlan:
    """The plan with the files that its examples would be made from in a run of one group."""
    selection = Selection(
        group="sums",
        policy="student_best",
        method="race",
        delta=0.05,
        strategy="step_by_step",
        reason="race",
        indifference=0.0,
        tied=("step_by_step",),
        fragile=False,
        num_problems=sum(entry.rows for entry in plan.examples),
        num_scored_problems=200,
        summaries=tuple(
            _summary(name, 1 / (2 + place)) for place, name in enumerate(strategies.names)
        ),
    )
    chosen = write_records(run_dir, "selections/sums.a1.arrow", [selection], Selection)
    origins = []
    for number, entry in enumerate(plan.examples):
        unit = f"sums-{number:06d}"
        examples = read_records(run_dir, entry, Example)
        problems = _problems(examples, number)
        rationales = _rationales(examples, strategies)
        name = UnitName(stage="rationales", stage_key="k", unit=unit, group="sums")
        taught = write_unit(run_dir, name, rationales, Rationale, engine="vllm 0.32.0")
        origins.append(
            UnitOrigin(
                unit=unit,
                group="sums",
                problems=write_records(run_dir, f"problems/{unit}.a1.arrow", problems, Problem),
                rationales=taught.accepted,
                selection=chosen,
            )
        )
    teacher = TeacherFacts(
        name="teacher-70B", digest="0" * 64, temperature=0.7, top_p=0.95, run_seed=0
    )
    return dataclasses.replace(plan, origins=tuple(origins), teacher=teacher)


def _problems(examples: Sequence[Example], number: int) -> list[Problem]:
    return [
        Problem(
            problem_id=row.problem_id,
            task=row.task,
            question=row.messages[1].content,
            target="1",
            answer_type="numeric",
            source_file="sums.jsonl",
            source_line=number * len(examples) + place + 1,
        )
        for place, row in enumerate(examples)
    ]


def _rationales(examples: Sequence[Example], strategies: Strategies) -> list[Rationale]:
    return [
        Rationale(
            problem_id=row.problem_id,
            task=row.task,
            strategy=row.strategy,
            attempt=row.attempt,
            system=strategies.instructions[row.strategy],
            user=row.messages[1].content,
            text=row.messages[2].content,
            answer="1",
            num_prompt_tokens=row.num_prompt_tokens,
            num_completion_tokens=len(row.input_ids) - row.num_prompt_tokens,
        )
        for row in examples
    ]


def _summary(strategy: str, mean: float) -> StrategySummary:
    return StrategySummary(
        strategy=strategy,
        num_scored=200,
        mean=mean,
        low=0.0,
        high=1.0,
        mean_completion_tokens=100.0,
        num_truncated=0,
        num_unparsed=0,
        num_ungraded=0,
        fell_in_block=-1,
        fell_to="",
        fell_by="",
    )
