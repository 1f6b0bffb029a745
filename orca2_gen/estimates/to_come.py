"""How long teaching will take, told while the student is still scored."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from orca2_gen.config.engine import ScriptedEngineConfig
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.estimates.answers import row_length
from orca2_gen.estimates.engines import Engines, speed_of, start_of
from orca2_gen.estimates.observed import observed_beside
from orca2_gen.foresight.expected import Expected, exactly, product, total
from orca2_gen.run_directory.ledger import read_ledger

STAGE = "rationales"


def teaching_to_come(config: Config) -> Expected | None:
    """The seconds of the stage of rationales, starts included; None if no run or preview beside the
    run has shown how fast this teacher is.

    Raises:
        OSError, ValueError: the run cannot be read.
    """
    run_dir, directory = Path(config.run_dir), engine_directory(config.teacher)
    unplaced = Engines(
        stage=STAGE,
        model=Path(directory).name,
        num_parameters=None,
        sequences=config.teacher.sequences,
        directory=directory,
        is_scripted=isinstance(config.teacher, ScriptedEngineConfig),
    )
    runs = observed_beside(run_dir)
    seen = [each for each in runs if each.stage == STAGE and unplaced.is_model_of(each)]
    if not seen:
        return None
    engines = dataclasses.replace(
        unplaced, gpu=seen[0].gpu, is_on_gpus=seen[0].is_on_gpus, ranks=seen[0].ranks
    )
    speed = speed_of(engines, seen, {})
    if speed is None:
        return None
    problems = sum(each.counts["accepted"] for each in read_ledger(run_dir).committed("problems"))
    length = row_length(
        engines,
        "",
        seen,
        max_tokens=config.rationales.max_tokens,
        requests=exactly(1.0),
    )
    per_second = speed.tokens_per_second.times(config.teacher.replicas)
    each = Expected(value=1 / per_second.value, low=1 / per_second.high, high=1 / per_second.low)
    return total([start_of(engines, seen), product(exactly(problems), length.tokens, each)])
