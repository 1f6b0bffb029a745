"""What a run takes and gives, from its config, its tasks and what earlier runs showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orca2_gen.config.schema import Config
from orca2_gen.estimates.answers import RowLength, row_length
from orca2_gen.estimates.engines import Engines, speed_of, start_of
from orca2_gen.estimates.observed import Observed
from orca2_gen.estimates.reading import ReadTasks, notes_of
from orca2_gen.foresight.expected import Expected, exactly, product, spread, total, within
from orca2_gen.foresight.needs import StageNeeds, WholeRun
from orca2_gen.foresight.opening_races import opening_cells
from orca2_gen.selection.blocks import Rule
from orca2_gen.selection.decision import wilson_interval
from orca2_gen.strategies import CAUTIOUS, Strategies

DRAWS = 48
"""Draws of what the strategies can do."""
SCORED_AGAIN = Expected(value=1.05, low=1.0, high=3.0)
"""Requests for each call of a scored row: a student that never comes to an end is asked a second
time, and then for a forced ending."""
TAUGHT = Expected(value=0.8, low=0.4, high=0.99)
"""Share of taught problems that become a row where answers are verified; a student's data is made
of tasks that a good teacher mostly solves."""
UNVERIFIED = Expected(value=0.97, low=0.9, high=1.0)
PROMPT_DOUBT = 1.15
"""Factor up to which the mean prompt of a sample of the problems is right."""
JUDGING_TOKENS = 150.0
"""Tokens of a judge's prompt beside problem and answer, roughly."""
ROW_BYTES, TOKEN_BYTES = 120.0, 2.5
"""Bytes of a row's file beside its text, and for a token of its text, compressed: as measured on
GSM8K and AGIEval."""
DATASET_TOKEN_BYTES = 10.5
"""Bytes of the dataset for a token of a row: ids, labels and the text, as measured there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """All that an estimate rests on."""

    config: Config
    strategies: Strategies
    rule: Rule
    tasks: ReadTasks
    engines: Mapping[str, Engines]
    """Stage -> its engines."""
    observed: Sequence[Observed]
    peaks: Mapping[str, float]
    """Name of a GPU, or the beginning of it -> its operations per second."""


def whole_run(known: Known) -> WholeRun:
    """What the run takes and gives."""
    config, tasks = known.config, known.tasks
    stages = []
    if known.rule.needs_scores:
        stages.append(_scores(known))
        if judged := [group for group in tasks.groups if group.is_judged]:
            num = sum(min(group.num_problems, known.rule.scored_problems) for group in judged)
            arms = len(known.rule.strategies) + known.rule.cautious_arm
            length = stages[0].generated_tokens.value / max(1.0, stages[0].rows.value)
            stages.append(_judgements(known, num * arms, length))
    taught = _rationales(known)
    rows = product(exactly(tasks.num_problems), _rows_of_problem(known))
    answer = taught.generated_tokens.value / max(1.0, taught.rows.value)
    trained = tasks.prompts["teacher"].mean_problem(tasks.sizes) + answer
    examples = rows.value * (ROW_BYTES + trained * (DATASET_TOKEN_BYTES + TOKEN_BYTES))
    return WholeRun(
        stages=(*stages, taught),
        rows=_at_most(rows, tasks.num_problems * config.rationales.per_problem),
        dataset_bytes=tasks.num_rows * tasks.problem_bytes + examples,
        notes=notes_of(config),
    )


def sources(known: Known) -> dict[str, str]:
    """Stage -> what the speed of its engines is known from, or that it is not."""
    found = {}
    for stage, engines in known.engines.items():
        speed = speed_of(engines, known.observed, known.peaks)
        found[stage] = speed.source if speed else "nothing: no earlier run has shown it"
    return found


def _scores(known: Known) -> StageNeeds:
    engines, config = known.engines["scores"], known.config.scoring
    lengths = {
        name: row_length(
            engines,
            name,
            known.observed,
            max_tokens=config.most_tokens,
            requests=SCORED_AGAIN.times(_num_calls(known, name)),
        )
        for name in (*known.rule.strategies, CAUTIOUS)
    }
    mean = {name: length.tokens.value for name, length in lengths.items()}
    rng = np.random.default_rng(known.rule.run_seed)
    draws = opening_cells(known.tasks.groups, known.rule, mean, rng, DRAWS)
    if known.rule.cautious_arm:
        for cells in draws:
            cells[CAUTIOUS] = max(cells.values(), default=0)
    scored = {name: spread([each[name] for each in draws]) for name in lengths}
    prompts = known.tasks.prompts["student"]
    problem = prompts.mean_problem(_scored_problems(known))
    asked = {
        name: (num, lengths[name], prompts.frames[name] + problem)
        for name, num in scored.items()
        if num.value
    }
    return _needs(known, engines, asked)


def _judgements(known: Known, num: int, answer_tokens: float) -> StageNeeds:
    length = row_length(
        known.engines["judgements"],
        "",
        known.observed,
        max_tokens=known.config.judging.max_tokens,
        requests=exactly(1.0),
    )
    problem = known.tasks.prompts["student"].mean_problem(_scored_problems(known))
    prompt = JUDGING_TOKENS + problem + answer_tokens
    return _needs(known, known.engines["judgements"], {"": (exactly(num), length, prompt)})


def _rationales(known: Known) -> StageNeeds:
    config, strategies = known.config.rationales, known.rule.strategies
    calls = sum(_num_calls(known, name) for name in strategies) / len(strategies)
    fewest, most = min(config.per_problem, config.max_attempts), config.max_attempts
    attempts = Expected(value=min(1.4 * fewest, most), low=fewest, high=most)
    length = row_length(
        known.engines["rationales"],
        "",
        known.observed,
        max_tokens=config.max_tokens,
        requests=attempts.times(calls),
    )
    prompts = known.tasks.prompts["teacher"]
    frames = [prompts.frames[name] for name in strategies]
    prompt = sum(frames) / len(frames) + prompts.mean_problem(known.tasks.sizes)
    taught = exactly(known.tasks.num_problems)
    return _needs(known, known.engines["rationales"], {"": (taught, length, prompt)})


def _needs(
    known: Known, engines: Engines, asked: Mapping[str, tuple[Expected, RowLength, float]]
) -> StageNeeds:
    """What so many rows of such lengths and prompts take under each strategy."""
    rows = total([num for num, _, _ in asked.values()])
    requests = total([product(num, length.requests) for num, length, _ in asked.values()])
    prompt_tokens = total(
        [
            product(num, length.requests, within(prompt, PROMPT_DOUBT))
            for num, length, prompt in asked.values()
        ]
    )
    generated = total([product(num, length.tokens) for num, length, _ in asked.values()])
    speed = speed_of(engines, known.observed, known.peaks)
    seconds = engine_seconds = None
    if speed is not None:
        each = speed.tokens_per_second
        inverse = Expected(value=1 / each.value, low=1 / each.high, high=1 / each.low)
        engine_seconds = product(generated, inverse)
        start = start_of(engines, known.observed)
        seconds = total([start, engine_seconds.times(1.0 / engines.replicas)])
    return StageNeeds(
        stage=engines.stage,
        rows=rows,
        requests=requests,
        prompt_tokens=prompt_tokens,
        generated_tokens=generated,
        engine_seconds=engine_seconds,
        seconds=seconds,
        num_bytes=_bytes(known, engines, rows.value, generated.value),
    )


def _bytes(known: Known, engines: Engines, num_rows: float, num_tokens: float) -> float:
    """The bytes of a stage's files."""
    for each in known.observed:  # those of the run itself are the first
        if each.stage == engines.stage and each.row_bytes and engines.is_model_of(each):
            return num_rows * each.row_bytes
    return num_rows * ROW_BYTES + num_tokens * TOKEN_BYTES


def _rows_of_problem(known: Known) -> Expected:
    """The rows that a problem becomes, on an average."""
    most = known.config.rationales.per_problem
    taught = known.engines["rationales"]
    runs = [each for each in known.observed if taught.is_model_of(each) and each.num_taught]
    own = [each for each in runs if each.is_own] or runs
    num_taught = sum(each.num_taught for each in own)
    if not num_taught:
        share = TAUGHT if known.config.rationales.verify else UNVERIFIED
        return Expected(value=share.value, low=share.low, high=share.high * most)
    each = sum(run.num_examples for run in own) / num_taught
    # Several rows of a problem are no proportion.
    low, high = wilson_interval(min(1.0, each), num_taught)
    scale = max(1.0, each)
    # Other tasks are harder or easier for the teacher.
    doubtful = Expected(value=each, low=0.9 * low * scale, high=1.1 * high * scale)
    return _at_most(doubtful, most)


def _scored_problems(known: Known) -> dict[str, int]:
    """Group -> its problems that may be scored."""
    return {
        group.name: min(group.num_problems, known.rule.scored_problems)
        for group in known.tasks.groups
    }


def _num_calls(known: Known, strategy: str) -> int:
    return 1 + len(known.strategies.further_calls.get(strategy, ()))


def _at_most(number: Expected, most: float) -> Expected:
    return Expected(
        value=min(number.value, most), low=min(number.low, most), high=min(number.high, most)
    )
