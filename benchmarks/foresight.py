"""How well the end of a stage is foretold.

    python -m benchmarks.foresight

Scripted runs, each drawn from its seed: tasks, how well each strategy does, lengths of answers,
engines, their speed, and deaths of engines. A race scores the tasks, then a teacher answers all
problems of the tasks. The races are the real ones (orca2_gen/selection), and the figures are those
that real engines write; engines and time are simulated, second by second, and nobody works ahead of
a race. The estimate of a stage at a tenth, a quarter and a half of its time is compared with its
true end: `error` is the estimated duration of the whole stage over the true one, less one, and
infinite where there is no estimate yet. Stages of less than a quarter of an hour are left out:
engines load for a good part of them.

The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.scripted.cluster import Event, Unit
from benchmarks.scripted.runs import MEAN_TOKENS, drawn_run, scores_of, scoring, teaching
from orca2_gen.foresight.amounts import KnownUnits, Races, UnitRows
from orca2_gen.foresight.seconds import Foresight, Foretold
from orca2_gen.records import StudentScore
from orca2_gen.run_directory.units import Receipt, UnitName, write_unit
from orca2_gen.selection.blocks import SURVIVORS, Group, block_unit

SHARES = (0.1, 0.25, 0.5)
"""Shares of a stage's time at which its end is foretold."""
GOAL = 0.2
SHORTEST = {"15 min": 900.0, "1 h": 3600.0}
"""Least lengths of stages that are counted together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Errors:
    """How an estimate compares with the truth."""

    error: float
    total: float
    """Seconds of the stage."""
    is_inside: bool
    """Whether the end lies in the interval."""


def foretold(
    foresight: Foresight, events: Sequence[Event], receipt_of: Callable[[Unit], Receipt]
) -> dict[float, Errors]:
    """Share of the stage's time -> the error of what is foretold at the first look after it."""
    total = events[-1].time
    found: dict[float, Errors] = {}
    for event in events:
        if event.unit is not None:
            foresight.add(receipt_of(event.unit))
            continue
        living = [each for each in event.figures if each.start in event.living]
        foresight.look(event.time, {each.start: each for each in event.figures}, living)
        due = [share for share in SHARES if share not in found and event.time >= share * total]
        if due:
            estimate = foresight.foretell()
            for share in due:
                found[share] = _errors(estimate, event.time, total)
        if len(found) == len(SHARES):
            break
    return found


def _errors(estimate: Foretold | None, now: float, total: float) -> Errors:
    if estimate is None:
        return Errors(error=math.inf, total=total, is_inside=False)
    return Errors(
        error=(now + estimate.seconds) / total - 1,
        total=total,
        is_inside=now + estimate.low <= total <= now + estimate.high,
    )


def errors_of(seed: int, folder: Path) -> dict[str, dict[float, Errors]]:
    """Stage -> share of its time -> the error of its foretold end."""
    run = drawn_run(seed)

    def scored_receipt(unit: Unit) -> Receipt:
        name = UnitName(
            stage="scores",
            stage_key="k",
            unit=block_unit(unit.group, unit.index),
            group=unit.group.name,
        )
        counts = {SURVIVORS: unit.survivors}
        return write_unit(folder, name, scores_of(run, unit), StudentScore, counts=counts)

    def taught_receipt(unit: Unit) -> Receipt:
        return Receipt(
            stage="rationales",
            stage_key="k",
            unit=_taught_unit(unit.group, unit.index),
            attempt=1,
            files=(),
            counts={},
            group=unit.group.name,
        )

    races = Races(run_dir=folder, groups=tuple(run.groups), rule=run.rule, committed=())
    scored, taught = scoring(run), teaching(run)
    units = sorted(
        (event.unit for event in taught if event.unit is not None),
        key=lambda unit: (run.groups.index(unit.group), unit.index),
    )
    rows = {
        _taught_unit(unit.group, unit.index): UnitRows(
            num=len(unit.rows),
            strategy=unit.rows[0][0],
            length=MEAN_TOKENS[unit.rows[0][0]] * run.wordiness[unit.group.name],
        )
        for unit in units
    }
    return {
        "scores": foretold(Foresight(races), scored, scored_receipt),
        "rationales": foretold(Foresight(KnownUnits(units=rows)), taught, taught_receipt),
    }


def _taught_unit(group: Group, index: int) -> str:
    return f"{group.name}-{index:06d}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    found: dict[tuple[str, float], list[Errors]] = {}
    for seed in range(chosen.first_seed, chosen.first_seed + chosen.runs):
        with TemporaryDirectory(prefix="orca2-foresight-") as folder:
            for stage, by_share in errors_of(seed, Path(folder)).items():
                for share, errors in by_share.items():
                    found.setdefault((stage, share), []).append(errors)
                    print(
                        seed,
                        stage,
                        share,
                        f"{errors.total:.0f} s {errors.error:+.2f}",
                        file=sys.stderr,
                        flush=True,
                    )
    _print(found, chosen.runs)


def _print(found: dict[tuple[str, float], list[Errors]], num_runs: int) -> None:
    table = Table(title=f"{num_runs} runs", title_justify="left")
    columns = ("stage", "of at least", "at", "stages", "within 20 %", "median error")
    for column in (*columns, "9 of 10 within", "in interval"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    figures: dict[str, dict[str, float]] = {}
    for name, shortest in SHORTEST.items():
        for (stage, share), each in sorted(found.items()):
            if counted := [errors for errors in each if errors.total >= shortest]:
                row = _row(counted)
                figures[f"{stage} of {name} at {share}"] = row
                cells = (f"{value:g}" for value in row.values())
                table.add_row(stage, name, f"{share:.0%}", *cells)
    Console(width=120).print(table)
    print(json.dumps(figures))


def _row(found: Sequence[Errors]) -> dict[str, float]:
    errors = np.array([each.error for each in found])
    return {
        "stages": len(found),
        "within": round(float((np.abs(errors) <= GOAL).mean()), 3),
        "median": round(float(np.median(errors)), 3),
        "nine_of_ten": round(float(np.quantile(np.abs(errors), 0.9, method="higher")), 3),
        "inside": round(float(np.mean([each.is_inside for each in found])), 3),
    }


if __name__ == "__main__":
    main()
