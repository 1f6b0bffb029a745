"""What a whole run takes, from what its preview took.

Answers of the whole run are as long as the preview's, task by task and strategy by strategy as far
as it shows them, and as many are accepted. A race is played on from the preview's scores
(foresight/races.py). An engine is faster with a full batch than with the few requests of a preview,
so the seconds are the most that one engine takes.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from orca2_gen.config.schema import Config
from orca2_gen.foresight.amounts import Races
from orca2_gen.foresight.races import RaceFutures
from orca2_gen.records import StudentScore
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.engine_figures import Answers, EngineFigures
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.selection.blocks import Group, Rule, permutation
from orca2_gen.selection.decision import wilson_interval
from orca2_gen.tasks.counts import TaskCounts, counts_by_task, task_of

FUTURES = 64
MIXTURES = ("flan", "natural_instructions")
"""Formats whose files hold many tasks, each of which a preview shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """A number, and where it lies in nine of ten cases."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Expected:
        return Expected(value=self.value * factor, low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True, kw_only=True, slots=True)
class StageNeeds:
    """What one stage of the whole run takes."""

    stage: str
    rows: Expected
    """Rows that engines are asked for: answers under each strategy, judgements, rationales."""
    prompt_tokens: Expected
    generated_tokens: Expected
    engine_seconds: Expected
    """Seconds of one engine at the preview's speed; with a full batch it takes fewer."""
    num_bytes: float
    """Bytes of its files."""


def whole_run(
    config: Config, rule: Rule, ledger: Ledger, figures: Mapping[str, EngineFigures]
) -> tuple[list[StageNeeds], Expected]:
    """What the stages of a run take that have engines, and the rows of its dataset.

    Args:
        config: config of the run.
        rule: rule of its selection.
        ledger: the preview's.
        figures: those of the preview's engines.
    """
    groups = groups_of(config, ledger)
    needs = []
    cells = _scored(rule, ledger, groups)
    if cells is not None:
        needs.append(_needs("scores", cells, ledger, figures))
    if ledger.committed("judgements"):
        judged = [group for group in groups if group.is_judged]
        each = sum(len(permutation(group, rule)) for group in judged) * len(rule.strategies)
        needs.append(_needs("judgements", {"": _exactly(each)}, ledger, figures))
    problems = _problems(config, ledger)
    needs.append(_needs("rationales", {"": problems}, ledger, figures))
    return needs, _dataset_rows(ledger, problems)


def groups_of(config: Config, ledger: Ledger) -> list[Group]:
    """The selection groups that the preview shows, each as large as in the whole run."""
    read = counts_by_task(ledger, "problems")
    shown: dict[str, Counter[str]] = {}
    is_judged: dict[str, bool] = {}
    for receipt in ledger.committed("problems"):
        task = task_of(receipt)
        shown.setdefault(task, Counter())[receipt.group] += receipt.counts["accepted"]
        is_judged[receipt.group] = bool(is_judged.get(receipt.group) or receipt.counts.get("open"))
    sizes: Counter[str] = Counter()
    for name, counts in read.items():
        accepted = _num_rows(config, counts) * counts.accepted / max(1, counts.input)
        for group, num in shown[name].items():
            sizes[group] += round(accepted * num / max(1, counts.accepted))
    found = {group: num for group, num in sizes.items() if num}
    return [
        Group(name=group, num_problems=num, num_groups=len(found), is_judged=is_judged[group])
        for group, num in found.items()
    ]


def _num_rows(config: Config, counts: TaskCounts) -> int:
    """The rows of a task that the whole run reads."""
    task = next(each for each in config.tasks if each.name == counts.task)
    total = counts.input + counts.passed_over
    if task.rows_per_task is None or task.format in MIXTURES:
        return total
    return min(total, task.rows_per_task)


def _problems(config: Config, ledger: Ledger) -> Expected:
    """The problems of the whole run: rows that are accepted."""
    parts = []
    for counts in counts_by_task(ledger, "problems").values():
        share = counts.accepted / max(1, counts.input)
        low, high = wilson_interval(share, counts.input)
        num_rows = _num_rows(config, counts)
        if num_rows == counts.input:  # all of them were read
            low = high = share
        parts.append(Expected(value=share, low=low, high=high).times(num_rows))
    return _sum(parts)


def _scored(rule: Rule, ledger: Ledger, groups: list[Group]) -> dict[str, Expected] | None:
    """Strategy -> answers under it; None if nothing is scored."""
    if not rule.needs_scores:
        return None
    races = RaceFutures(
        Races(run_dir=ledger.run_dir, groups=tuple(groups), rule=rule, committed=())
    )
    scores: dict[str, list[StudentScore]] = {group.name: [] for group in groups}
    stage = "judgements" if ledger.committed("judgements") else "scores"
    for receipt in ledger.committed(stage) or ledger.committed("scores"):
        if receipt.group in scores:
            rows = read_records(ledger.run_dir, receipt.accepted, StudentScore)
            scores[receipt.group] += rows
    for group, rows in scores.items():
        if rows:
            races.begin(group, rows)
    drawn = races.futures(np.random.default_rng(rule.run_seed), FUTURES)
    if not drawn:
        return {name: _exactly(0.0) for name in rule.strategies}
    totals: dict[str, list[float]] = {}
    for future in drawn:
        cells: Counter[str] = Counter()
        for blocks in future.races:
            for block in blocks:
                for name, (num, _) in block.items():
                    cells[name] += num / future.share  # type: ignore[assignment]
        for name in (*rule.strategies, "cautious"):
            totals.setdefault(name, []).append(float(cells[name]))
    return {name: _spread(values) for name, values in totals.items() if max(values)}


def _needs(
    stage: str,
    rows: Mapping[str, Expected],
    ledger: Ledger,
    figures: Mapping[str, EngineFigures],
) -> StageNeeds:
    """What so many rows take; "" stands for all strategies that the preview shows."""
    engines = [each for each in figures.values() if each.stage == stage]
    answered: Counter[str] = Counter()
    for each in engines:
        answered.update(each.rows)
    prompt = {name: _per_row(engines, name, answered, "prompt_tokens") for name in (*rows, "")}
    made = {name: _per_row(engines, name, answered, "completion_tokens") for name in (*rows, "")}
    prompt_tokens = _sum([num.times(prompt[name]) for name, num in rows.items()])
    generated = _sum([num.times(made[name]) for name, num in rows.items()])
    busy = sum(each.busy_seconds for each in engines)
    per_token = busy / max(1, sum(each.generated_tokens for each in engines))
    receipts = ledger.committed(stage)
    stored = sum(entry.bytes for receipt in receipts for entry in receipt.files)
    total = _sum(list(rows.values()))
    return StageNeeds(
        stage=stage,
        rows=total,
        prompt_tokens=prompt_tokens,
        generated_tokens=generated,
        engine_seconds=generated.times(per_token),
        num_bytes=stored / max(1, answered.total()) * total.value,
    )


def _per_row(
    engines: list[EngineFigures], strategy: str, answered: Counter[str], field: str
) -> float:
    """Tokens of a row under a strategy, with all its requests; under any if it is "" or unseen."""
    names = [strategy] if answered[strategy] else list(answered)
    tokens = sum(
        getattr(each.answers.get(name, Answers()), field) for each in engines for name in names
    )
    return float(tokens / max(1, sum(answered[name] for name in names)))


def _dataset_rows(ledger: Ledger, problems: Expected) -> Expected:
    taught = ledger.committed("rationales")
    asked = sum(receipt.taken_in for receipt in taught)
    accepted = sum(receipt.counts["accepted"] for receipt in ledger.committed("examples"))
    share = accepted / max(1, asked)
    # Several rationales of a problem are no proportion.
    low, high = wilson_interval(min(1.0, share), asked)
    scale = max(1.0, share)
    return Expected(
        value=share * problems.value,
        low=low * scale * problems.low,
        high=high * scale * problems.high,
    )


def _exactly(value: float) -> Expected:
    return Expected(value=value, low=value, high=value)


def _spread(values: list[float]) -> Expected:
    low, high = np.quantile(values, (0.05, 0.95))
    return Expected(value=float(np.mean(values)), low=float(low), high=float(high))


def _sum(parts: list[Expected]) -> Expected:
    """The sum of numbers that are high together: strategies of races that are long."""
    fields = [field.name for field in dataclasses.fields(Expected)]
    return Expected(**{name: sum(getattr(part, name) for part in parts) for name in fields})
