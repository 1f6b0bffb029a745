"""Answers per second and core of every grader, and the cost of a pathological formula.

    python -m benchmarks.grading_speed

The texts are the hand-made answers of tests/grading after some lines of working. A grader is timed
twice over them: on answers it has not met, and as scoring meets them, where strategies repeat most
answers (--strategies times each problem, a share of them agreeing). Mathematics is timed apart, in
a child. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from rich.console import Console
from rich.table import Table

from benchmarks.marked_answers import read_marked_answers
from orca2_gen.grading import formula_equality
from orca2_gen.grading.grade import grade, remembered
from orca2_gen.records import AnswerType, Problem

WORKING = "First 343 + 706 is 1049, as the digits show. " * 10 + "\n"
FRESH_ANSWERS = 4_000
AGREEING = 0.6
"""Share of a problem's answers that are the same under every strategy."""
TOWER = "9^{9^{9^{9}}}"

Item = tuple[Problem, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """The figures of one grader."""

    answers_per_second: float
    """Answers that it had not met, per second and core."""
    repeated_answers_per_second: float
    """Answers as scoring meets them, per second and core."""
    memo_hit_share: float
    """Share of hits in the second measurement."""
    slowest_milliseconds: float


def read_items(answer_type: AnswerType) -> list[Item]:
    """The hand-made answers that are not cut short, after lines of working."""
    working = "" if answer_type == "summary" else WORKING
    return [
        (row.problem, working + row.text)
        for row in read_marked_answers(answer_type)
        if row.finish_reason == "stop"
    ]


def seconds_of(items: Sequence[Item]) -> tuple[float, float]:
    """CPU seconds over all items, and of the slowest one."""
    slowest, started = 0.0, time.process_time()
    for problem, text in items:
        before = time.perf_counter()
        grade(problem, text, "stop")
        slowest = max(slowest, time.perf_counter() - before)
    return time.process_time() - started, slowest


def measure(answer_type: AnswerType, num_strategies: int, seed: int) -> Speed:
    """The Speed of a grader."""
    items = read_items(answer_type)
    grade(*items[0], "stop")  # imports what it needs
    memo, num_fresh, seconds, slowest = remembered, 0, 0.0, 0.0
    while num_fresh < (400 if answer_type == "summary" else FRESH_ANSWERS):
        memo.cache_clear()  # answers are new, golds are not: those are read once per problem
        more, slow = seconds_of(items)
        num_fresh, seconds, slowest = num_fresh + len(items), seconds + more, max(slowest, slow)
    draw, texts = random.Random(seed), [text for _, text in items]
    met = [
        (problem, text if draw.random() < AGREEING else draw.choice(texts))
        for problem, text in items
        for _ in range(num_strategies)
    ]
    memo.cache_clear()
    repeated, _ = seconds_of(met)
    counts = memo.cache_info()
    return Speed(
        answers_per_second=round(num_fresh / seconds, 1),
        repeated_answers_per_second=round(len(met) / repeated, 1),
        memo_hit_share=round(counts.hits / max(1, counts.hits + counts.misses), 3),
        slowest_milliseconds=round(1000 * slowest, 2),
    )


def measure_children(seed: int) -> dict[str, float]:
    """The items per second of one child, and the seconds of an item that never ends."""
    draw = random.Random(seed)
    start = time.perf_counter()
    assert formula_equality.compare(("1/2",), "x/(2x)") == "correct"
    starting = time.perf_counter() - start
    factors = [(draw.randint(2, 99), draw.randint(2, 99)) for _ in range(100)]
    start, slowest = time.perf_counter(), 0.0
    for a, b in factors:
        before = time.perf_counter()
        expanded = f"x^2 + {a + b}x + {a * b}"
        assert formula_equality.compare((expanded,), f"(x+{a})(x+{b})") == "correct"
        slowest = max(slowest, time.perf_counter() - before)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    assert formula_equality.compare(("5",), TOWER) == "ungraded"
    tower = time.perf_counter() - start
    formula_equality.close()
    return {
        "items_per_second": round(len(factors) / seconds, 1),
        "slowest_milliseconds": round(1000 * slowest, 2),
        "start_seconds": round(starting, 3),
        "pathological_seconds": round(tower, 3),
    }


def main() -> None:
    """Prints the tables and the JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strategies", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    in_process = [kind for kind in get_args(AnswerType) if kind not in ("mathematics", "open")]
    speeds = {kind: measure(kind, arguments.strategies, arguments.seed) for kind in in_process}
    children = measure_children(arguments.seed)
    table = Table("grader", "answers/s", "as scoring meets them", "memo hits", "slowest ms")
    for kind, speed in speeds.items():
        table.add_row(
            kind,
            f"{speed.answers_per_second:,.0f}",
            f"{speed.repeated_answers_per_second:,.0f}",
            f"{speed.memo_hit_share:.0%}",
            f"{speed.slowest_milliseconds:.2f}",
        )
    console = Console(width=100)
    console.print(table)
    child_table = Table("mathematics in a child", "value")
    for name, value in children.items():
        child_table.add_row(name, str(value))
    console.print(child_table)
    figures = {kind: dataclasses.asdict(speed) for kind, speed in speeds.items()}
    print(json.dumps({**figures, "mathematics_child": children}))


if __name__ == "__main__":
    main()
