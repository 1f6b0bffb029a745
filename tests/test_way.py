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
file                                           gsm8k   jsonl
orca2_gen/calls.py                               124     124
orca2_gen/chat/chat.py                            29      29
orca2_gen/chat/encode.py                         153     153
orca2_gen/chat/load.py                           126     126
orca2_gen/chat/markers.py                         31      31
orca2_gen/chat/parting.py                         92      92
orca2_gen/chat/rendered_texts.py                  38      38
orca2_gen/chat/rendering.py                       13      13
orca2_gen/chat/rows.py                            59      59
orca2_gen/chat/template_arguments.py              23      23
orca2_gen/chat/templates.py                      163     163
orca2_gen/chat/thinking.py                       106     106
orca2_gen/config/arguments.py                     17      17
orca2_gen/config/engine.py                         8       8
orca2_gen/config/engine_arguments.py              29      29
orca2_gen/config/load.py                          58      58
orca2_gen/config/paths.py                         51      51
orca2_gen/config/schema.py                        98      98
orca2_gen/config/scoring.py                       10      10
orca2_gen/config/secrecy.py                       28      28
orca2_gen/config/section.py                       17      17
orca2_gen/config/task.py                          40      40
orca2_gen/dataset/card.py                         69      69
orca2_gen/dataset/card_sections.py               193     193
orca2_gen/dataset/croissant.py                   173     173
orca2_gen/dataset/figures.py                      70      70
orca2_gen/dataset/instruction_search.py           70      70
orca2_gen/dataset/licenses.py                     27      27
orca2_gen/dataset/manifest.py                     41      41
orca2_gen/dataset/markdown.py                     46      46
orca2_gen/dataset/origins.py                     139     139
orca2_gen/dataset/prompt_search.py                42      42
orca2_gen/dataset/proof.py                       120     120
orca2_gen/dataset/shards.py                      133     133
orca2_gen/dataset/template_texts.py               71      71
orca2_gen/dataset/verdict.py                      33      33
orca2_gen/dataset/write.py                       159     159
orca2_gen/endings.py                               8       8
orca2_gen/engine.py                               32      32
orca2_gen/erasure.py                              56      56
orca2_gen/grading/announcements.py                80      80
orca2_gen/grading/answers.py                      19      26
orca2_gen/grading/choices.py                       -      28
orca2_gen/grading/final_answers.py                77      77
orca2_gen/grading/formula_equality.py              9       9
orca2_gen/grading/gold_types.py                   16      16
orca2_gen/grading/grade.py                        63      63
orca2_gen/grading/graders.py                      15       3
orca2_gen/grading/numbers.py                      72       -
orca2_gen/grading/own_words.py                    13      13
orca2_gen/grading/plain_notation.py                7       -
orca2_gen/grading/questions.py                     8       8
orca2_gen/grading/verdicts.py                     12       3
orca2_gen/lengths.py                              98      98
orca2_gen/prompts.py                              29      29
orca2_gen/provenance/inputs.py                    87      87
orca2_gen/provenance/recorded.py                  24      24
orca2_gen/provenance/row_origins.py               62      62
orca2_gen/provenance/run_facts.py                164     164
orca2_gen/quoting.py                              51      51
orca2_gen/rationales.py                          153     153
orca2_gen/records.py                              14      14
orca2_gen/run_directory/arrow_files.py           142     142
orca2_gen/run_directory/digests.py                19      19
orca2_gen/run_directory/durable_files.py          62      62
orca2_gen/run_directory/engine_figures.py         10      10
orca2_gen/run_directory/json_files.py             54      54
orca2_gen/run_directory/ledger.py                 80      80
orca2_gen/run_directory/ledger_lines.py           99      99
orca2_gen/run_directory/overwriting.py            41      41
orca2_gen/run_directory/record_tables.py          99      99
orca2_gen/run_directory/regular_files.py          40      40
orca2_gen/run_directory/row_names.py               3       3
orca2_gen/run_directory/units.py                 123     123
orca2_gen/run_directory/unpacking.py             140     140
orca2_gen/scoring.py                              39      39
orca2_gen/scripted_engine.py                      72      72
orca2_gen/selection/blocks.py                     20      20
orca2_gen/selection/decision.py                  156     156
orca2_gen/selection/race.py                       12      12
orca2_gen/strategies.py                           29      29
orca2_gen/tasks/choice_labels.py                   -      14
orca2_gen/tasks/comparison.py                     41      41
orca2_gen/tasks/contamination.py                  14      14
orca2_gen/tasks/copies.py                         49      49
orca2_gen/tasks/counts.py                         23      23
orca2_gen/tasks/duplicates.py                     67      67
orca2_gen/tasks/files.py                          71      71
orca2_gen/tasks/fingerprints.py                   78      78
orca2_gen/tasks/formats/__init__.py               50      50
orca2_gen/tasks/formats/gsm8k.py                  19       -
orca2_gen/tasks/formats/jsonl.py                   -      88
orca2_gen/tasks/formats/labelled_choices.py        -      50
orca2_gen/tasks/formats/option_letters.py          -      39
orca2_gen/tasks/formats/options.py                 -      22
orca2_gen/tasks/json_arrays.py                     7       7
orca2_gen/tasks/matches.py                        23      23
orca2_gen/tasks/near_duplicates.py                58      58
orca2_gen/tasks/normal_form.py                    28      20
orca2_gen/tasks/read.py                           78      78
orca2_gen/tasks/rows.py                           79      79
orca2_gen/tasks/source.py                         31      31
orca2_gen/tasks/stated_rows.py                    61      61
orca2_gen/tasks/statements.py                    104     127
orca2_gen/tasks/trigrams.py                       62      62
ray_jobs/cluster.py                               12      12
ray_jobs/decontamination.py                       11      11
ray_jobs/dispatch/leases.py                        8       8
ray_jobs/dispatch/receipts.py                     17      17
ray_jobs/dispatch/unit_receipts.py                81      81
ray_jobs/engines/actor.py                        193     193
ray_jobs/engines/figures.py                      129     129
ray_jobs/engines/logs.py                           5       5
ray_jobs/engines/own_process.py                   40      40
ray_jobs/engines/ray_metrics.py                   23      23
ray_jobs/engines/versions.py                      41      41
ray_jobs/engines/watchdog.py                      51      51
ray_jobs/file_stages.py                          137     137
ray_jobs/stages.py                                24      24
orca2_gen: files                                  99     102
orca2_gen: lines                                6051    6195
ray_jobs: files                                   14      14
ray_jobs: lines                                  772     772
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
