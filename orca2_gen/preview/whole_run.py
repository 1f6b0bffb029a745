"""What a whole run takes, from what its preview took.

Answers of the whole run are as long as the preview's, task by task and strategy by strategy, and as
many are accepted. A race is played on from the preview's scores (foresight/races.py). An engine is
faster with a full batch than with the few requests of a preview.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orca2_gen.config.arguments import engines_by_stage
from orca2_gen.config.schema import Config
from orca2_gen.foresight.amounts import Races
from orca2_gen.foresight.expected import Expected, exactly, spread, total
from orca2_gen.foresight.needs import StageNeeds, WholeRun
from orca2_gen.foresight.races import RaceFutures
from orca2_gen.preview.reading import Reading
from orca2_gen.records import Rationale, StudentScore
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.engine_figures import Answers, EngineFigures
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.selection.blocks import Group, Rule, permutation
from orca2_gen.selection.decision import wilson_interval
from orca2_gen.strategies import CAUTIOUS

FUTURES = 64
Sizes = Mapping[str, int]
"""Group -> its problems in the whole run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """Rows that engines are asked for in a stage; "" stands for all strategies."""

    rows: Mapping[str, Expected]
    weighted: Mapping[str, Expected]
    """The same, each row counted by its group's answers' length over the preview's mean."""
    prompts: float = 1.0
    """Length of a prompt over the preview's mean."""


def whole_run(
    config: Config,
    rule: Rule,
    ledger: Ledger,
    figures: Mapping[str, EngineFigures],
    num_rows: int,
) -> WholeRun:
    """What a run takes.

    Args:
        config: config of the run.
        rule: rule of its selection.
        ledger: the preview's.
        figures: those of the preview's engines.
        num_rows: problems that the preview drew of each task.
    """
    reading = Reading(config=config, ledger=ledger, num_rows=num_rows)
    groups = reading.groups()
    sizes = {group.name: group.num_problems for group in groups}
    asked: dict[str, _Asked] = {}
    if rule.needs_scores:
        asked["scores"] = _scored(rule, ledger, groups, sizes)
    if ledger.committed("judgements"):
        judged = [group for group in groups if group.is_judged]
        num_strategies = len(rule.strategies) + rule.cautious_arm
        cells = exactly(sum(len(permutation(group, rule)) for group in judged) * num_strategies)
        asked["judgements"] = _Asked(rows={"": cells}, weighted={"": cells})
    problems = reading.problems()
    asked["rationales"] = _taught(ledger, problems, sizes)
    replicas = {stage: engine.replicas for stage, (_, engine) in engines_by_stage(config).items()}
    rows = _dataset_rows(ledger, problems)
    return WholeRun(
        stages=tuple(
            _needs(stage, rows_asked, ledger, figures, replicas[stage])
            for stage, rows_asked in asked.items()
        ),
        rows=rows,
        dataset_bytes=rows.value * _dataset_bytes(ledger),
        notes=reading.notes(groups),
    )


def _scored(rule: Rule, ledger: Ledger, groups: list[Group], sizes: Sizes) -> _Asked:
    """The answers that are scored."""
    races = RaceFutures(
        Races(run_dir=ledger.run_dir, groups=tuple(groups), rule=rule, committed=())
    )
    scores: dict[str, list[StudentScore]] = {group.name: [] for group in groups}
    for receipt in ledger.committed("scores"):
        if receipt.group in scores:
            scores[receipt.group] += read_records(ledger.run_dir, receipt.accepted, StudentScore)
    for group, rows in scores.items():
        if rows:
            races.begin(group, rows)
    names = (*rule.strategies, CAUTIOUS) if rule.cautious_arm else rule.strategies
    cells: dict[str, list[float]] = {name: [] for name in names}
    weighted: dict[str, list[float]] = {name: [] for name in names}
    for future in races.futures(np.random.default_rng(rule.run_seed), FUTURES):
        if not future.share:  # with one strategy there is nothing to score
            continue
        blocks = [block for race in future.races for block in race]
        for name in names:
            found = [block[name] for block in blocks if name in block]
            cells[name].append(sum(num for num, _ in found) / future.share)
            weighted[name].append(sum(weight for _, weight in found) / future.share)
    prompts = {
        group: [float(score.num_prompt_tokens) for score in rows] for group, rows in scores.items()
    }
    return _Asked(
        rows={name: spread(values) for name, values in cells.items()},
        weighted={name: spread(values) for name, values in weighted.items()},
        prompts=_relative_length(prompts, sizes),
    )


def _taught(ledger: Ledger, problems: Expected, sizes: Sizes) -> _Asked:
    """The problems that are taught."""
    made: dict[str, list[float]] = {}
    prompts: dict[str, list[float]] = {}
    for receipt in ledger.committed("rationales"):
        entries = [receipt.accepted, *([receipt.refused] if receipt.refused else [])]
        for entry in entries:
            for row in read_records(ledger.run_dir, entry, Rationale):
                made.setdefault(receipt.group, []).append(row.num_completion_tokens)
                prompts.setdefault(receipt.group, []).append(row.num_prompt_tokens)
    return _Asked(
        rows={"": problems},
        weighted={"": problems.times(_relative_length(made, sizes))},
        prompts=_relative_length(prompts, sizes),
    )


def _relative_length(tokens: Mapping[str, Sequence[float]], sizes: Sizes) -> float:
    """The mean of tokens over a whole run, whose groups have these sizes, over the preview's."""
    every = [num for each in tokens.values() for num in each]
    shown = {group: each for group, each in tokens.items() if each and sizes.get(group)}
    num_problems = sum(sizes[group] for group in shown)
    if not shown or not sum(every):
        return 1.0
    mean = sum(sizes[group] * sum(each) / len(each) for group, each in shown.items())
    mean /= num_problems
    return mean / (sum(every) / len(every))


def _needs(
    stage: str,
    asked: _Asked,
    ledger: Ledger,
    figures: Mapping[str, EngineFigures],
    replicas: int,
) -> StageNeeds:
    """What so many rows take on so many engines."""
    engines = [each for each in figures.values() if each.stage == stage]
    answered: Counter[str] = Counter()
    for each in engines:
        answered.update(each.rows)
    prompt_tokens = total(
        [
            num.times(asked.prompts * _per_row(engines, name, answered, "prompt_tokens"))
            for name, num in asked.rows.items()
        ]
    )
    generated = total(
        [
            num.times(_per_row(engines, name, answered, "completion_tokens"))
            for name, num in asked.weighted.items()
        ]
    )
    requests = total(
        [
            num.times(_per_row(engines, name, answered, "requests"))
            for name, num in asked.rows.items()
        ]
    )
    busy = sum(each.busy_seconds for each in engines)
    per_token = busy / max(1, sum(each.generated_tokens for each in engines))
    starts = [each.start_seconds for each in engines if each.start_seconds is not None]
    start = exactly(sum(starts) / max(1, len(starts)))
    receipts = ledger.committed(stage)
    stored = sum(entry.bytes for receipt in receipts for entry in receipt.files)
    rows = total(list(asked.rows.values()))
    return StageNeeds(
        stage=stage,
        rows=rows,
        requests=requests,
        prompt_tokens=prompt_tokens,
        generated_tokens=generated,
        engine_seconds=generated.times(per_token),
        seconds=total([start, generated.times(per_token / replicas)]),
        num_bytes=stored / max(1, answered.total()) * rows.value,
    )


def _per_row(
    engines: list[EngineFigures], strategy: str, answered: Counter[str], field: str
) -> float:
    """A field of a row's Answers under a strategy, over all its requests; under any strategy if it
    is "" or unseen.
    """
    names = [strategy] if answered[strategy] else list(answered)
    number = sum(
        getattr(each.answers.get(name, Answers()), field) for each in engines for name in names
    )
    return float(number / max(1, sum(answered[name] for name in names)))


def _dataset_bytes(ledger: Ledger) -> float:
    """The bytes of an example: its problem's, its own and the dataset's."""
    made = ledger.committed("examples")
    receipts = [*ledger.committed("problems"), *made]
    stored = sum(entry.bytes for receipt in receipts for entry in receipt.files)
    directory = ledger.run_dir / "dataset"
    stored += sum(path.stat().st_size for path in directory.glob("*.arrow"))
    return stored / max(1, sum(receipt.counts["accepted"] for receipt in made))


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
