"""What determines an evaluation's answers, and the keys made of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orca2_gen.calls import CALLS_VERSION
from orca2_gen.chat import ENCODING_VERSION
from orca2_gen.config.arguments import engine_rendering
from orca2_gen.config.engine import EngineConfig
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.grading.grade import GRADER_VERSION
from orca2_gen.preflight.judge import check_judge
from orca2_gen.provenance.inputs import Inputs, with_engine
from orca2_gen.provenance.stage_keys import (
    endings_determinants,
    engine_determinants,
    hashed,
    judging_determinants,
)
from orca2_gen.run_directory.ledger import stage_key
from orca2_gen.strategies import EMPTY, Strategies


def evaluation_key(
    config: Config,
    engine: EngineConfig,
    problems_key: str,
    inputs: Inputs,
    grader: int | None = None,
) -> str:
    """The key of one model's evaluation, with the verdicts of this version of the grader.

    Args:
        config: the run's.
        engine: the model's; `inputs` hold its digests.
        problems_key: the key of the held-out problems.
        inputs: the run's.
        grader: the GRADER_VERSION of the verdicts; None for today's.
    """
    names = config.evaluation.messages
    messages = dict(_messages(names, inputs.strategies))
    determinants = _answering(config, engine, inputs, grader) | {
        "messages": hashed(messages) | {"order": list(names)}
    }
    further = {name: inputs.strategies.further_calls.get(name, ()) for name in names}
    if any(further.values()):
        determinants["further_calls"] = {name: list(said) for name, said in further.items() if said}
    source = engine_directory(engine), engine_rendering(engine, inputs.template_date)
    if EMPTY in names and source in inputs.rendered_empty:
        determinants["rendered_empty"] = dict(inputs.rendered_empty[source])
    return stage_key(problems_key, determinants)


def with_evaluating(config: Config, inputs: Inputs, engine: EngineConfig) -> Inputs:
    """The Inputs with the digests of an engine that is evaluated, and of its judge if there is one.

    Raises:
        ValueError: both are the same model.
    """
    inputs, judge = with_engine(inputs, engine), config.judge_of_held_out
    if judge is not None:
        inputs = with_engine(inputs, judge)
        check_judge(judge, "evaluated model", engine, inputs.models)
    return inputs


def model_key(config: Config, engine: EngineConfig, problems_key: str, inputs: Inputs) -> str:
    """The key of all that evaluations of a model share, under whichever messages."""
    return stage_key(problems_key, _answering(config, engine, inputs, None))


def judge_key(config: Config, inputs: Inputs) -> str:
    """The key of the judge of open held-out answers, and of how it is asked; empty without one."""
    judge = config.judge_of_held_out
    return "" if judge is None else stage_key("", judging_determinants(config, judge, inputs))


def _answering(
    config: Config, engine: EngineConfig, inputs: Inputs, grader: int | None
) -> dict[str, Any]:
    judge = config.judge_of_held_out
    return {
        "engine": engine_determinants(engine, config.run_seed, inputs),
        # One key for answers and their verdicts: two judges make two evaluations of a model.
        **({"judge": judging_determinants(config, judge, inputs)} if judge is not None else {}),
        "answer_sentence": inputs.strategies.answer_sentence,
        "max_tokens": config.evaluation.max_tokens,
        **endings_determinants(config),
        "calls": CALLS_VERSION,
        "encoding": ENCODING_VERSION,
        "grader": GRADER_VERSION if grader is None else grader,
    }


def _messages(names: tuple[str, ...], strategies: Strategies) -> Iterator[tuple[str, str]]:
    """Every text that may be the system message of an answer, by a name of its own."""
    for name in names:
        if name != EMPTY:
            yield name, strategies.system_message(name)
    for text_name, text in strategies.every_instruction.items():
        if text_name not in names and text_name.partition(" @ ")[0] in names:
            yield text_name, text
