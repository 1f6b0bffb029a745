"""Accepted training rows per engine-second: ours against the method put together from ray.data.llm.

    python -m benchmarks.headline                    half an hour on two idle cores
    python -m benchmarks.headline --tiny --pairs 1   the same, too small to mean anything

    ours       a run of this project: a race for the strategies, the teacher until one answer is
               accepted, rows with their instruction erased
    usual      ray.data.llm: the student's full grid, the strategy of the highest mean score, four
               samples of the teacher for each problem, of which the first accepted one stays
    careful    the same grid, the teacher greedily, and what failed sampled again, as often as by us
    replayed   what ours asked, asked of ray.data.llm: it splits the factor by cause (split.py)

On the one engine that each contender has at a time, our race is not worked ahead of.

Models and tasks are the microworld's, whose student and teacher are trained, so that answers are
right and wrong as they really are. Held equal are problems, prompts, limits of tokens, graders, the
rule that chooses, what makes an answer acceptable, one row a problem, engine values and the number
of requests in flight. The careful and the usual assembly share one grid in each pair, since they
would ask the same. Nobody asks a second time for an answer that is cut short or cannot be read.

A contender's engines are the only ones up while it runs, and each starts with an empty cache.
Engine-seconds count from when an engine can generate until the last row of its stage is there,
student and teacher together; starts stand apart. For ours that includes grading, writing and
committing, for ray.data.llm grading alone. Pairs alternate: ours, then the others.

The last line on stdout is one JSON document; after an interrupt it tells of the finished pairs.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from benchmarks.assembly.feeds import feed
from benchmarks.assembly.ground import MICROWORLD, Ground, pair_config
from benchmarks.assembly.made import Made
from benchmarks.assembly.methods import careful, grid, replayed, usual
from benchmarks.assembly.ours import run_ours
from benchmarks.assembly.split import Pair, contender_table, document, factor_table
from benchmarks.throughput.machine import binding, roomy_ray
from orca2_gen.config.schema import Config
from orca2_gen.exit_codes import INTERRUPTED

WIDTH = 130
Result = TypeVar("Result")


def main() -> None:
    """Runs the pairs and prints tables and the JSON line; the code is 75 after an interrupt."""
    options = _options()
    bound = binding(None)
    with tempfile.TemporaryDirectory(prefix="orca2-headline-") as folder, roomy_ray():
        make = functools.partial(run_pair, folder=Path(folder), options=options)
        found = finished(make, options.pairs)
    pairs, ground = [pair for pair, _ in found], found[-1][1]
    problems = [problem for each in ground.problems.values() for problem in each]
    told = document(pairs, problems, bound | _settings(ground))
    out = Console(width=None if Console().is_terminal else WIDTH)
    out.print(contender_table(told))
    out.print(factor_table(told))
    print(json.dumps(told))
    if len(pairs) < options.pairs:
        sys.exit(INTERRUPTED)


def finished(make: Callable[[int], Result], count: int) -> list[Result]:
    """What is made for each number below `count`, or before an interrupt.

    Raises:
        KeyboardInterrupt: it came before the first was made.
    """
    found: list[Result] = []
    try:
        for number in range(count):
            found.append(make(number))
    except KeyboardInterrupt:
        if not found:
            raise
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="16 problems of each task")
    parser.add_argument("--config", type=Path, default=MICROWORLD)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    if options.pairs < 1:
        parser.error(f"--pairs is {options.pairs}; expected at least 1")
    try:  # before anything starts
        _config(options, Path("runs/headline"))
    except ValueError as error:
        parser.error(str(error))
    return options


def _config(options: argparse.Namespace, run_dir: Path) -> Config:
    return pair_config(options.config, run_dir, options.overrides, is_tiny=options.tiny)


def run_pair(number: int, folder: Path, options: argparse.Namespace) -> tuple[Pair, Ground]:
    """One pair: ours, then the assemblies, then our requests on their path and on a bare engine."""
    ours = run_ours(_config(options, folder / f"run-{number}"))
    ground = ours.ground
    _tell(number, "ours", ours.made)
    strategies, student = grid(ground)
    made = {"ours": ours.made}
    for name, make in {"usual": usual, "careful": careful}.items():
        made[name] = make(ground, strategies, student)
        _tell(number, name, made[name])
    made["replayed"] = replayed(ground, ours.asked_student, ours.asked_teacher, ours.made.chosen)
    _tell(number, "replayed", made["replayed"])
    fed = feed(ground, "student", ours.asked_student, batches_first=number % 2 == 0)
    fed += feed(ground, "teacher", ours.asked_teacher, batches_first=number % 2 == 1)
    return Pair(**made, fed=fed), ground


def _tell(number: int, name: str, made: Made) -> None:
    print(
        f"pair {number + 1}, {name}: {len(made.rows)} rows in {made.engine_seconds:.1f} "
        f"engine-seconds, {made.rows_per_engine_second:.2f} a second",
        file=sys.stderr,
        flush=True,
    )


def _settings(ground: Ground) -> dict[str, object]:
    config = ground.config
    engine = ground.engine("student")
    names = {"dtype", "block_size", "max_num_seqs", "max_num_batched_tokens", "enforce_eager"}
    return engine.model_dump(include=names | {"kv_cache_memory_bytes"}) | {
        "scored_problems": config.selection.scored_problems,
        "race_block_size": config.selection.block_size,
        "delta": config.selection.delta,
        "indifference": config.selection.indifference,
        "max_attempts": config.rationales.max_attempts,
        "temperature": config.rationales.temperature,
        "top_p": config.rationales.top_p,
    }


if __name__ == "__main__":
    main()
