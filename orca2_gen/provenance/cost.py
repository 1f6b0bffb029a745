"""What a run's engines cost: their seconds and tokens, by stage and by strategy.

It is counted by the engines themselves (RUN/engines), every few seconds, so what one did in its
last seconds before it was killed is missing; and all drivers of a run are counted together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from orca2_gen.run_directory.engine_figures import Answers, EngineFigures
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.units import STAGES


@dataclass(frozen=True, kw_only=True, slots=True)
class StageCost:
    """The engines of one stage."""

    stage: str
    num_starts: int
    """Starts of engines."""
    device_seconds: float
    """Seconds for which engines had their GPUs, times the GPUs of each; on CPUs, of engines."""
    loading: float
    """Of them, until the first token; all of them for an engine that never came up."""
    busy: float
    """Of them, with a request open."""
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    """With those of requests that were never finished."""
    gpus: tuple[str, ...]
    """Models of the GPUs."""

    @property
    def idle(self) -> float:
        """Device-seconds of engines that were up and had nothing to do."""
        return max(0.0, self.device_seconds - self.loading - self.busy)


@dataclass(frozen=True, kw_only=True, slots=True)
class StrategyCost:
    """The finished requests of one strategy in one stage."""

    stage: str
    strategy: str
    answers: Answers
    device_seconds: float
    """Its share of the stage's busy ones, by generated tokens."""


def stage_costs(figures: Mapping[str, EngineFigures]) -> list[StageCost]:
    """The costs of all stages, in their order, evaluations last."""
    by_stage: dict[str, list[EngineFigures]] = {}
    for each in figures.values():
        by_stage.setdefault(each.stage, []).append(each)
    return [_stage_cost(stage, by_stage[stage]) for stage in sorted(by_stage, key=_place)]


def _place(stage: str) -> tuple[int, str]:
    """Where a stage stands among the others; an evaluation's name ends with its model's."""
    return (STAGES.index(stage) if stage in STAGES else len(STAGES), stage)


def _stage_cost(stage: str, engines: list[EngineFigures]) -> StageCost:
    answers = [answers for each in engines for answers in each.answers.values()]
    return StageCost(
        stage=stage,
        num_starts=len(engines),
        device_seconds=sum(each.device_seconds for each in engines),
        loading=sum(
            each.device_seconds
            if each.start_seconds is None
            else each.start_seconds * max(1, each.num_gpus)
            for each in engines
        ),
        busy=sum(each.busy_seconds * max(1, each.num_gpus) for each in engines),
        prompt_tokens=sum(each.prompt_tokens for each in answers),
        cached_tokens=sum(each.cached_tokens for each in answers),
        generated_tokens=sum(each.generated_tokens for each in engines),
        gpus=tuple(sorted({each.gpu for each in engines if each.gpu})),
    )


def strategy_costs(figures: Mapping[str, EngineFigures]) -> list[StrategyCost]:
    """The costs of every strategy in every stage."""
    totals: dict[tuple[str, str], Answers] = {}
    for each in figures.values():
        for strategy, answers in each.answers.items():
            before = totals.get((each.stage, strategy), Answers())
            totals[each.stage, strategy] = Answers(
                requests=before.requests + answers.requests,
                truncated=before.truncated + answers.truncated,
                prompt_tokens=before.prompt_tokens + answers.prompt_tokens,
                cached_tokens=before.cached_tokens + answers.cached_tokens,
                completion_tokens=before.completion_tokens + answers.completion_tokens,
                seconds=before.seconds + answers.seconds,
            )
    busy = {cost.stage: cost.busy for cost in stage_costs(figures)}
    made = {
        stage: sum(a.completion_tokens for (each, _), a in totals.items() if each == stage)
        for stage in busy
    }
    ordered = sorted(totals.items(), key=lambda item: (_place(item[0][0]), item[0][1]))
    return [
        StrategyCost(
            stage=stage,
            strategy=strategy,
            answers=answers,
            device_seconds=busy[stage] * answers.completion_tokens / max(1, made[stage]),
        )
        for (stage, strategy), answers in ordered
    ]


def cost_line(ledger: Ledger, figures: Mapping[str, EngineFigures]) -> str:
    """What a row costs; empty where no engine has told."""
    spent = sum(cost.device_seconds for cost in stage_costs(_of_dataset(figures)))
    rows = sum(receipt.counts["accepted"] for receipt in ledger.committed("examples"))
    if not spent:
        return ""
    on = "GPU" if any(each.num_gpus for each in figures.values()) else "engine"
    line = f"{spent:,.0f} {on}-seconds for the dataset"
    if not _counted_all(ledger, figures):
        return f"{line}, without what other runs, or earlier versions, spent on it"
    if rows:
        line += f", {spent / rows:.3g} for each of {rows:,} rows, {rows / spent:.3g} rows in each"
    return line


def _counted_all(ledger: Ledger, figures: Mapping[str, EngineFigures]) -> bool:
    """Whether engines have told of as many requests as the committed rows took, at least.

    A fork, a regraded run and one that an older version began hold rows of other engines.
    """
    asked: Counter[str] = Counter()
    for each in figures.values():
        asked[each.stage] += sum(answers.requests for answers in each.answers.values())
    return all(
        asked[stage] >= sum(receipt.counts["accepted"] for receipt in ledger.committed(stage))
        for stage in ("scores", "judgements", "rationales")
    )


def _of_dataset(figures: Mapping[str, EngineFigures]) -> dict[str, EngineFigures]:
    return {start: each for start, each in figures.items() if not each.stage.startswith("eval")}
