"""The whole method with a real student and a real teacher, on published problems.

    python -m benchmarks.real_models --student DIR --teacher DIR --data DIR

Two cores take up to 90 minutes at the sizes that are set; `--full` takes the full sets on a GPU.
Real engines, real Ray, real training: preflight, scores, selection, rationales, dataset, training,
and an evaluation before and after it. The problems are GSM8K's (trained on its train file, held out
from its test file), AQuA's (its dev file; held out is its test file as AGIEval prints it) and two
of AGIEval's sets, which are scored under every strategy in a run of their own and held out from
training, since AGIEval is for evaluation. `--data` holds the files under the names
gsm8k_train.jsonl, gsm8k_test.jsonl, aqua_dev.jsonl and agieval_SET.jsonl; nothing of them belongs
in a repository.

A run that was interrupted goes on if it is started again; its seconds are then those of the last
start alone. The last line on stdout is one JSON document, which OUT/summary.json holds too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.pairs.figures import (
    Figures,
    choice_figures,
    held_out_figures,
    scoring_figures,
    speed_figures,
    teaching_figures,
    undecided_figures,
)
from benchmarks.pairs.settings import (
    CONFIG,
    FULL,
    SMALL,
    Sizes,
    check_directories,
    engine_settings,
    row_settings,
    scored_settings,
    size_settings,
    task_settings,
)
from benchmarks.pairs.tables import (
    choice_table,
    held_out_table,
    scoring_table,
    seconds_table,
    speed_line,
    teaching_table,
    undecided_line,
)
from orca2_gen.commands.preflight import ask_first
from orca2_gen.config.load import load_config
from orca2_gen.console.progress import show_stage
from orca2_gen.exit_codes import INTERRUPTED, exit_code
from orca2_gen.records import Example, Rationale, Rejection, Selection
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import Ledger, committed_rows, write_summary
from ray_jobs.cluster import is_cpu_build
from ray_jobs.evaluation import score_model
from ray_jobs.pipeline import read_tasks, run_all, score_student, select_strategies
from ray_jobs.run import open_run
from train.launch import train_student, trained_student

ENGINE_STAGES = {"scores": "student", "rationales": "teacher"}
"""Stages whose engines a dataset needs, and the engine of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One benchmark run of a student and a teacher."""

    out: Path
    overrides: tuple[str, ...]
    """Settings beside `pair.toml`."""
    scored: tuple[str, ...]
    """Further ones of the run that only scores."""
    sizes: Sizes


def main() -> None:
    """Runs the pair, prints tables and the JSON line."""
    options = _options()
    try:
        pair = _pair(options)
        figures = measure(pair)
    except KeyboardInterrupt:
        print("Interrupted: run the same command again to continue.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if (code := exit_code(error)) is None:
            raise
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(code)
    _print_tables(figures)
    write_summary(pair.out, "summary.json", figures)
    print(json.dumps(figures))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--student", type=Path, required=True, metavar="DIR")
    parser.add_argument("--teacher", type=Path, required=True, metavar="DIR")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("runs/real_models"), metavar="DIR")
    parser.add_argument(
        "--agieval", nargs=2, default=["sat-en", "lsat-ar"], metavar="SET", help="two sets' names"
    )
    parser.add_argument("--full", action="store_true", help="the full sets, for a GPU")
    for size in dataclasses.fields(Sizes):
        said = f"{getattr(SMALL, size.name)}; with --full {getattr(FULL, size.name) or 'all'}"
        parser.add_argument(f"--{size.name.replace('_', '-')}", type=int, metavar="N", help=said)
    parser.add_argument(
        "--kv-cache-bytes", type=int, default=1 << 30, help="of each engine, on a CPU"
    )
    parser.add_argument("--bind", help="VLLM_CPU_OMP_THREADS_BIND on a CPU; all cores if not given")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def _pair(options: argparse.Namespace) -> Pair:
    """The Pair of the options.

    Raises:
        ValueError: a directory or file is missing, or a size is none.
    """
    agieval = (options.agieval[0], options.agieval[1])
    check_directories(options.student, options.teacher, options.data, agieval)
    given = {f.name: getattr(options, f.name) for f in dataclasses.fields(Sizes)}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if value < (0 if name == "steps" else 1):
            raise ValueError(f"--{name.replace('_', '-')} is {value}; give a larger number")
    chosen = FULL if options.full else SMALL
    if "max_tokens" in given:
        given.setdefault("retry_max_tokens", max(given["max_tokens"], chosen.retry_max_tokens))
    sizes = dataclasses.replace(chosen, **given)
    settings = [
        f"student.model={options.student}",
        f"teacher.model={options.teacher}",
        f"run_dir={options.out / 'run'}",
        *size_settings(sizes),
        *task_settings(options.data, agieval),
        *engine_settings(
            on_gpu=not is_cpu_build(), kv_cache_bytes=options.kv_cache_bytes, bind=options.bind
        ),
        *options.overrides,
    ]
    scored = [
        f"run_dir={options.out / 'scored'}",
        *scored_settings(options.data, agieval, sizes),
    ]
    return Pair(out=options.out, overrides=tuple(settings), scored=tuple(scored), sizes=sizes)


def measure(pair: Pair) -> Figures:
    """The figures of a pair, whose run is made up to the trained student's evaluation."""
    started = time.monotonic()
    config = load_config(CONFIG, pair.overrides)
    ask_first(config, prints_facts=True)
    with open_run(config, show_stage) as run:
        summary = run_all(run)
        selections = committed_rows(run.ledger, "selections", Selection)
        teaching = _teaching(run.ledger)
        models = {"before": held_out_figures(score_model(run, "before"))}
        longest = max((len(e.input_ids) for e in _examples(run.ledger)), default=0)
        seconds = dict(run.seconds)
    with open_run(load_config(CONFIG, (*pair.overrides, *pair.scored)), show_stage) as run:
        read_tasks(run)
        score_student(run)
        select_strategies(run)
        selections += committed_rows(run.ledger, "selections", Selection)
        seconds["scores of AGIEval"] = run.seconds["scores"]
    if pair.sizes.steps and summary.rows:
        rows = row_settings(pair.sizes, longest)
        overrides = [*pair.overrides, *rows]
        print(f"training: {', '.join(rows)}; the longest example has {longest} tokens", flush=True)
        training_started = time.monotonic()
        with show_stage("training", None):
            train_student(CONFIG, overrides)
        seconds["training"] = time.monotonic() - training_started
        trained = load_config(CONFIG, overrides)
        with open_run(trained, show_stage) as run:
            after = score_model(run, "after", trained_student(trained))
            models["after"] = held_out_figures(after)
            seconds |= {k: v for k, v in run.seconds.items() if k.startswith("evaluation after")}
    seconds["total"] = time.monotonic() - started
    replicas = {stage: getattr(config, role).replicas for stage, role in ENGINE_STAGES.items()}
    return {
        "scoring": scoring_figures(selections),
        "choices": choice_figures(selections),
        "undecided": undecided_figures(selections),
        "teaching": teaching,
        "held_out": models,
        "rows_by_task": summary.rows_by_task,
        "longest_example": longest,
        "seconds": {stage: round(spent, 1) for stage, spent in seconds.items()},
        "speed": speed_figures(seconds, replicas, summary.rows),
        "sizes": dataclasses.asdict(pair.sizes),
    }


def _teaching(ledger: Ledger) -> Any:
    rejections = [
        rejection
        for receipt in ledger.committed("rationales")
        if receipt.rejections is not None
        for rejection in read_records(ledger.run_dir, receipt.rejections, Rejection)
    ]
    return teaching_figures(committed_rows(ledger, "rationales", Rationale), rejections)


def _examples(ledger: Ledger) -> list[Example]:
    return committed_rows(ledger, "examples", Example)


def _print_tables(figures: Figures) -> None:
    out = Console(width=None if Console().is_terminal else 130)
    out.print(scoring_table(figures["scoring"]))
    out.print(undecided_line(figures["undecided"]))
    out.print(choice_table(figures["choices"]))
    out.print(teaching_table(figures["teaching"]))
    rows = ", ".join(f"{number} {task}" for task, number in figures["rows_by_task"].items())
    out.print(f"training rows: {rows or 'none, so that nothing was trained'}")
    out.print(held_out_table(figures["held_out"]))
    out.print(seconds_table(figures["seconds"]))
    out.print(speed_line(figures["speed"]))


if __name__ == "__main__":
    main()
