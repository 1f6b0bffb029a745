"""The worth of each part of the method: one student trained on the same problems under six arms.

    ours           the strategy that is best for the student, instruction erased
    teacher_best   the strategy that is best (then cheapest) for the teacher, erased
    direct_answer  one strategy for all tasks, erased
    step_by_step   likewise
    random         a strategy drawn per task, erased; drawn again for every seed
    no_erasure     ours, with the instruction left in the training prompts

Every arm trains for the same number of optimizer steps with the same packed slots per step (short
answers fill them with more examples) and is asked the held-out problems under the cautious message.
Rows that the teacher could not answer under an arm's strategy are missing, not replaced; the second
table cuts every arm to the smallest arm's rows per task. The last line on stdout is one JSON
document, which RUNS/ablations.json holds too: `orca2 report RUNS/ours` shows it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from rich.console import Console
from rich.table import Table

from orca2_gen.config.load import load_config
from orca2_gen.console.progress import console
from orca2_gen.foresight.amounts import Amount
from orca2_gen.records import StudentScore
from orca2_gen.report.ablations import ABLATIONS
from orca2_gen.run_directory.ledger import write_summary
from orca2_gen.run_directory.units import Receipt
from ray_jobs.cluster import ray_instance
from ray_jobs.demo import CONFIG
from ray_jobs.evaluation import score_model
from ray_jobs.pipeline import run_all
from ray_jobs.run import open_run
from train.launch import train_student, trained_student

ARMS: dict[str, tuple[str, ...]] = {
    "ours": (),
    "teacher_best": ("selection.policy=teacher_best",),
    "direct_answer": ("selection.policy=fixed:direct_answer",),
    "step_by_step": ("selection.policy=fixed:step_by_step",),
    "random": ("selection.policy=random",),
    "no_erasure": ("erasure.prompts=instruction_kept", "training.prompts=instruction_kept"),
}
DRAWN = {"random"}
"""Arms whose dataset depends on the seed."""
BOOTSTRAPS = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """One fine-tuned student's held-out scores."""

    arm: str
    seed: int
    scores: list[StudentScore]


def main() -> None:
    """Trains and evaluates every arm and prints the two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--cut-seeds", type=int, default=1, help="seeds of the second table; 0 leaves it out"
    )
    options = parser.parse_args()
    if "ours" not in options.arms:
        parser.error("--arms: add ours, since the other arms start from its scores")
    # One arm trains on each core; more threads than cores would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ray_instance():
        arms = [arm for arm in ARMS if arm in options.arms]  # ours first: others start from it
        rows = {arm: _make_dataset(options, arm, 0) for arm in arms}
        for arm in set(arms) & DRAWN:
            # One draw over a few tasks can hit the best for all of them: luck is part of the arm.
            for seed in range(1, options.seeds):
                _make_dataset(options, arm, seed)
        tasks = [task.name for task in load_config(options.config, options.overrides).tasks]
        smallest = {task: min(rows[arm].get(task, 0) for arm in arms) for task in tasks}
        full = _train_all(options, rows, range(options.seeds), "full", ())
        cut_rows = dict.fromkeys(arms, smallest)
        limit = (
            "training.max_rows_per_task={"
            + ", ".join(f'"{t}" = {n}' for t, n in smallest.items())
            + "}"
        )
        cut = _train_all(options, cut_rows, range(options.cut_seeds), "cut", (limit,))
    summary = {
        "arms": _summary(full, rows),
        "arms_cut": _summary(cut, cut_rows),
        "rows_per_task_cut": smallest,
    }
    printer = Console(width=None if Console().is_terminal else 150)
    printer.print(_table("Held-out accuracy in % under the cautious message", summary["arms"]))
    if cut:
        printer.print(
            _table(
                "The same, every arm cut to the smallest arm's rows per task", summary["arms_cut"]
            )
        )
    write_summary(options.runs, ABLATIONS, summary)
    print(json.dumps(summary))


def _make_dataset(options: argparse.Namespace, arm: str, seed: int) -> dict[str, int]:
    """The rows by task of an arm that is run up to its dataset."""
    # Scores are taken over from ours where they fit.
    fork = None if arm == "ours" else options.runs / "ours"
    config = load_config(options.config, _overrides(options, arm, seed), source=fork)
    with open_run(config, _lines(arm), fork=fork) as run:
        return run_all(run).rows_by_task


def _train_all(
    options: argparse.Namespace,
    rows: Mapping[str, Mapping[str, int]],
    seeds: Sequence[int],
    label: str,
    further: Sequence[str],
) -> list[Trained]:
    """The students of every arm, as many arms at a time as cores, each on its own core."""
    cores: SimpleQueue[int] = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0)):
        cores.put(core)

    def train_arm(arm: str) -> list[Trained]:
        core = cores.get()
        try:
            return [_train(options, arm, seed, f"{label}-{seed}", further, core) for seed in seeds]
        finally:
            cores.put(core)

    for arm in rows:
        if not any(rows[arm].values()):
            console.print(f"{arm} {label}: left out, since it has no rows to train on")
    arms = [arm for arm in rows if any(rows[arm].values())]
    with ThreadPoolExecutor(max_workers=cores.qsize()) as pool:
        return [trained for students in pool.map(train_arm, arms) for trained in students]


def _train(
    options: argparse.Namespace, arm: str, seed: int, label: str, further: Sequence[str], core: int
) -> Trained:
    overrides = [
        *_overrides(options, arm, seed),
        f"training.seed={seed}",
        f"training.output={options.runs / arm / f'student-{label}'}",
        f"student.env.VLLM_CPU_OMP_THREADS_BIND='{core}'",
        *further,
    ]
    config = load_config(options.config, overrides)
    # The training program itself keeps a student that was made from the same inputs.
    train_student(options.config, overrides)
    output = trained_student(config)
    with open_run(config, _lines(f"{arm} {label}")) as run:
        return Trained(arm=arm, seed=seed, scores=score_model(run, label, output))


def _overrides(options: argparse.Namespace, arm: str, seed: int) -> list[str]:
    if arm in DRAWN and seed:
        further = [f"run_dir={options.runs / f'{arm}-{seed}'}", f"run_seed={seed}"]
    else:
        further = [f"run_dir={options.runs / arm}"]
    return [*options.overrides, *further, *ARMS[arm]]


def _summary(students: Sequence[Trained], rows: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Arm -> its figures: accuracy over its seeds and per task, interval, tokens, rows."""
    summary = {}
    for arm in dict.fromkeys(student.arm for student in students):
        seeds = [student for student in students if student.arm == arm]
        cells = _cells(seeds)
        per_seed = [_macro(_cells([student])) for student in seeds]
        low, high = _bootstrap(cells)
        tokens = [s.num_answer_tokens for student in seeds for s in student.scores]
        summary[arm] = {
            "accuracy": sum(per_seed) / len(per_seed),
            "seeds": per_seed,
            "interval": [low, high],
            "tokens": sum(tokens) / len(tokens),
            "rows": sum(rows[arm].values()),
            "rows_per_task": dict(rows[arm]),
            "per_task": {task: sum(means) / len(means) for task, means in sorted(cells.items())},
        }
    return summary


def _cells(students: Sequence[Trained]) -> dict[str, list[float]]:
    """Task -> each problem's mean score over the seeds."""
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for student in students:
        for s in student.scores:
            scores[s.task][s.problem_id].append(s.score)
    return {task: [sum(v) / len(v) for v in problems.values()] for task, problems in scores.items()}


def _macro(cells: Mapping[str, Sequence[float]]) -> float:
    return sum(sum(means) / len(means) for means in cells.values()) / len(cells)


def _bootstrap(cells: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """The 95% percentile interval of the macro average under resampling of each task's problems."""
    draw = random.Random(0)
    macros = sorted(
        _macro({t: draw.choices(means, k=len(means)) for t, means in cells.items()})
        for _ in range(BOOTSTRAPS)
    )
    return macros[int(0.025 * BOOTSTRAPS)], macros[int(0.975 * BOOTSTRAPS)]


def _table(title: str, arms: Mapping[str, Any]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("arm")
    tasks = sorted({task for arm in arms.values() for task in arm["per_task"]})
    for name in ("rows", *tasks, "macro", "95% interval", "by seed", "tokens"):
        table.add_column(name, justify="right")
    for name, arm in arms.items():
        table.add_row(
            name,
            str(arm["rows"]),
            *(f"{100 * arm['per_task'][task]:.0f}" for task in tasks),
            f"{100 * arm['accuracy']:.1f}",
            f"{100 * arm['interval'][0]:.1f}-{100 * arm['interval'][1]:.1f}",
            " ".join(f"{100 * seed:.1f}" for seed in arm["seeds"]),
            f"{arm['tokens']:.1f}",
        )
    return table


def _lines(label: str) -> Callable[[str, Amount], Any]:
    """A progress display of one line per stage."""

    # Several arms run at once, and a terminal has only one live display.
    @contextmanager
    def show(stage: str, amount: Amount) -> Iterator[Callable[[Receipt], None]]:
        rows = 0

        def advance(receipt: Receipt) -> None:
            nonlocal rows
            rows += receipt.counts["input"]

        yield advance
        console.print(f"{label}: {stage}, {rows} rows", highlight=False)

    return show


if __name__ == "__main__":
    main()
