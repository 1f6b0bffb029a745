"""The figures of a run as tables and lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from benchmarks.pairs.figures import Figures

MOST_UNDECIDED = 0.05
"""Share of undecided cells that is aimed at."""


def scoring_table(cells: Sequence[Figures]) -> Table:
    """One row for each task and strategy, the chosen ones marked."""
    table = _table(
        "The student under every strategy; * is the chosen one; shares in % of its cells",
        ("task", "strategy"),
        ("scored", "accuracy", "95% interval", "tokens", "unparsed", "truncated", "forced"),
    )
    for each in cells:
        mark = "* " if each["is_chosen"] else ""
        table.add_row(
            each["task"],
            mark + each["strategy"].replace("_", " "),
            str(each["num_scored"]),
            _percent(each["accuracy"]),
            _interval(each["interval"]),
            f"{each['tokens']:.0f}",
            _percent(each["unparsed"]),
            _percent(each["truncated"]),
            _percent(each["forced"]),
            style="bold" if mark else "",
        )
    return table


def choice_table(choices: Sequence[Figures]) -> Table:
    """One row for each task: what was chosen, why, and whether the choice is fragile."""
    table = _table("The choices", ("task", "strategy", "why", "fragile"), ("scored",))
    for each in choices:
        table.add_row(
            each["task"],
            each["strategy"].replace("_", " "),
            each["reason"].replace("_", " "),
            "yes" if each["fragile"] else "no",
            f"{each['num_scored_problems']} of {each['num_problems']}",
        )
    return table


def teaching_table(tasks: Sequence[Figures]) -> Table:
    """One row for each task: the teacher's accepted answers, and reasons of rejection."""
    table = _table(
        "The teacher's answers",
        ("task",),
        ("problems", "accepted", "at a sampled attempt", "with a thought", "tokens", "rejected"),
    )
    for each in tasks:
        names = ("num_problems", "num_accepted", "num_sampled", "num_thoughts")
        reasons = (f"{number} {reason}" for reason, number in each["rejected"].items())
        table.add_row(
            each["task"],
            *(str(each[name]) for name in names),
            f"{each['tokens']:.0f}",
            ", ".join(reasons) or "none",
        )
    return table


def held_out_table(models: Mapping[str, Mapping[str, Figures]]) -> Table:
    """One row for each task and model: accuracy and undecided answers on held-out problems.

    Behind an accuracy stands, in brackets, the one that counts forced answers as wrong.
    """
    table = _table(
        "Held-out accuracy in % under the cautious message (in brackets: forced answers counted as "
        "wrong); `all` is over all problems",
        ("task", "training"),
        ("problems", "accuracy", "95% interval", "tokens", "unparsed", "truncated", "forced"),
    )
    for task in next(iter(models.values()), {}):
        for label, tasks in models.items():
            each = tasks[task]
            table.add_row(
                task,
                label,
                str(each["num_problems"]),
                f"{_percent(each['accuracy'])} ({_percent(each['accuracy_unforced'])})",
                _interval(each["interval"]),
                f"{each['tokens']:.0f}",
                _percent(each["unparsed"]),
                _percent(each["truncated"]),
                _percent(each["forced"]),
                style="bold" if task == "all" else "",
            )
    return table


def seconds_table(seconds: Mapping[str, float]) -> Table:
    """One row for each stage, in the order in which they ran."""
    table = _table("Seconds of each stage", ("stage",), ("seconds",))
    for stage, spent in seconds.items():
        table.add_row(stage, f"{spent:.0f}")
    return table


def undecided_line(undecided: Figures) -> str:
    """A line with the cells that no verdict was found for, before and after forced endings."""
    num = undecided["num_cells"]
    return (
        f"undecided: {undecided['num_undecided_by_text']} of {num} cells by their own text, "
        f"{undecided['num_undecided']} of {num} after forced endings, "
        f"{100 * undecided['share']:.1f} %; the goal is at most {100 * MOST_UNDECIDED:.0f} %"
    )


def speed_line(speed: Figures) -> str:
    """A line with the accepted rows per engine-second."""
    return (
        f"accepted rows per engine-second: {speed['rows_per_engine_second']:.4f} "
        f"({speed['num_rows']} rows, {speed['engine_seconds']:.0f} s of engines)"
    )


def _table(title: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _interval(ends: Sequence[float]) -> str:
    return "-".join(f"{100 * end:.1f}" for end in ends)
