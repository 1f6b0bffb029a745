"""A problem enters no more files, and no more lines of functions, than WAY says.

`python -m tests.test_way` prints WAY as it is now and the sizes of the house below it. A commit
that makes the way longer says why.
"""

from __future__ import annotations

import functools

import pytest

from tests.house import sizes
from tests.way import PACKAGES, PROBLEMS, ROOT, Way, way_of

WAY = """

"""
"""File -> lines of the functions in it that a problem enters in the workers, and their sums: of a
number (gsm8k) and of a choice (jsonl)."""
SLACK = 0.02
"""Share by which a sum may be smaller than WAY says before WAY has to say so."""
SUMS = [f"{package}: {what}" for package in PACKAGES for what in ("files", "lines")]

cold_way = functools.cache(way_of)


@pytest.mark.parametrize("format", PROBLEMS)
def test_a_problem_has_no_longer_way_than_it_had(format: str) -> None:
    was, now = recorded(format), with_sums(cold_way(format))
    assert not [name for name in SUMS if now[name] > was[name]], difference(was, now)


@pytest.mark.parametrize("format", PROBLEMS)
def test_a_shorter_way_is_written_down(format: str) -> None:
    was, now = recorded(format), with_sums(cold_way(format))
    assert not [name for name in SUMS if now[name] < was[name] * (1 - SLACK)], difference(was, now)


def with_sums(way: Way) -> Way:
    """The way, and how many files and lines of each package it enters."""
    sums: Way = {}
    for package in PACKAGES:
        lines = [num for file, num in way.items() if file.startswith(f"{package}/")]
        sums |= {f"{package}: files": len(lines), f"{package}: lines": sum(lines)}
    return way | sums


def recorded(format: str) -> Way:
    """The column of a format in WAY, with its sums."""
    heading, *rows = (line.rsplit(None, len(PROBLEMS)) for line in WAY.strip().splitlines())
    place = heading.index(format)
    return {row[0]: int(row[place]) for row in rows if row[place] != "-"}


def difference(was: Way, now: Way) -> str:
    """What changed, then all of the way as it is now."""
    names = sorted({*was, *now})
    changed = [
        f"{n}: {was.get(n, 0)} -> {now.get(n, 0)}" for n in names if was.get(n) != now.get(n)
    ]
    whole = [f"{name} {num}" for name, num in now.items()]
    advice = (
        "`python -m tests.test_way` prints WAY as it is now; a commit that makes it longer says why"
    )
    return "\n".join([advice, "", *changed, "", "the way now:", *whole])


def table() -> str:
    """WAY as it is now."""
    ways = {format: with_sums(cold_way(format)) for format in PROBLEMS}
    files = sorted({name for way in ways.values() for name in way} - {*SUMS})
    rows = [[name, *(str(way.get(name, "-")) for way in ways.values())] for name in [*files, *SUMS]]
    return "\n".join(
        f"{name:<44}" + "".join(f"{num:>8}" for num in nums)
        for name, *nums in [["file", *ways], *rows]
    )


def entered_by_a_number() -> dict[str, str]:
    """What the plan of the house counts of the way of a gsm8k problem."""
    files = list(cold_way("gsm8k"))
    rooms = {file.split("/")[1] for file in files if file.startswith("orca2_gen/")}
    whole = {
        package: sum(num_lines(file) for file in files if file.startswith(f"{package}/"))
        for package in PACKAGES
    }
    return {
        "rooms of orca2_gen that a gsm8k problem enters": str(len(rooms)),
        **{f"lines of the whole files in {name}": str(num) for name, num in whole.items()},
    }


def num_lines(file: str) -> int:
    return len((ROOT / file).read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    sizes_now = sizes() | entered_by_a_number()
    print(table(), "", *(f"{what}: {num}" for what, num in sizes_now.items()), sep="\n")
