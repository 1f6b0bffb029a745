"""How long teaching will take, told while the student is still scored."""

from __future__ import annotations

from pathlib import Path

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
    run_dir, model = Path(config.run_dir), Path(engine_directory(config.teacher)).name
    runs = observed_beside(run_dir)
    seen = [each for each in runs if each.stage == STAGE and each.model == model]
    if not seen:
        return None
    engines = Engines(
        stage=STAGE,
        model=model,
        num_parameters=None,
        gpu=seen[0].gpu,
        is_on_gpus=bool(seen[0].gpu),
        ranks=seen[0].ranks,
        sequences=config.teacher.sequences,
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
        calls=1,
        requests=exactly(1.0),
    )
    per_second = speed.tokens_per_second.times(config.teacher.replicas)
    each = Expected(value=1 / per_second.value, low=1 / per_second.high, high=1 / per_second.low)
    return total([start_of(engines, seen), product(exactly(problems), length.tokens, each)])
