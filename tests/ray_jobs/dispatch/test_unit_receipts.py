from __future__ import annotations

import dataclasses
import itertools
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.calls import Budget
from orca2_gen.config.dispatch import DispatchConfig
from orca2_gen.records import Problem, Rationale, Rejection, StudentScore
from orca2_gen.run_directory.arrow_files import FileEntry, read_records
from orca2_gen.run_directory.units import Receipt, UnitName
from orca2_gen.selection.blocks import SURVIVORS, Block, Group, Rule, survivors_of
from orca2_gen.selection.decision import next_step, survivor_bits, survivors
from ray_jobs.dispatch.leases import Part, ScoreUnit, TeachUnit
from ray_jobs.dispatch.receipts import Tally
from ray_jobs.dispatch.unit_receipts import token_counts, write_made
from tests.selection.test_blocks import RULE, rules
from tests.selection.test_decision import draw_scores


@given(data=st.data(), rule=rules, num_problems=st.integers(1, 30))
def test_a_receipt_names_the_strategies_still_in_after_each_block_of_a_race(
    data: st.DataObject, rule: Rule, num_problems: int
) -> None:
    race_rule = dataclasses.replace(rule, method="race", delta=0.9)
    group = Group(name="sums", num_problems=num_problems, num_groups=2)
    blocks: list[list[StudentScore]] = []
    while isinstance(step := next_step(group, race_rule, dict(enumerate(blocks))), Block):
        blocks.append(draw_scores(data, step))
        bits = survivor_bits(group, race_rule, dict(enumerate(blocks)))
        receipt = Receipt(
            stage="scores", stage_key="", unit="u", attempt=1, files=(), counts={SURVIVORS: bits}
        )
        left = survivors(group, race_rule, dict(enumerate(blocks)))
        assert survivors_of(receipt, race_rule) == left
        full_grid = dataclasses.replace(race_rule, method="full_grid")
        assert survivors_of(receipt, full_grid) == full_grid.strategies


@given(data=st.data(), cuts=st.integers(0, 12))
def test_tokens_of_a_unit_are_those_of_its_parts(data: st.DataObject, cuts: int) -> None:
    step = next_step(Group(name="sums", num_problems=12, num_groups=2), RULE, {})
    assert isinstance(step, Block)
    rows = draw_scores(data, step)
    whole, first, last = (token_counts(part) for part in (rows, rows[:cuts], rows[cuts:]))
    assert whole == {name: first[name] + last[name] for name in whole}
    assert whole["completion_tokens"] == sum(row.num_completion_tokens for row in rows)


NOWHERE = FileEntry(path="", rows=0, bytes=0, sha256="")
Attempts = list[bool]
"""Of one problem: whether each attempt was accepted."""


def rationale(problem_id: str, attempt: int, fault: str = "") -> Rationale:
    return Rationale(
        problem_id=problem_id,
        task="sums",
        strategy="direct_answer",
        attempt=attempt,
        system="",
        user="",
        text=f"{attempt}",
        answer="",
        num_prompt_tokens=attempt,
        num_completion_tokens=3,
        fault=fault,
    )


def made_of(
    run_dir: Path, problems: list[Problem], said: list[Attempts], part: Part | None, attempt: int
) -> Receipt:
    """The receipt of a unit or a part of it, whose teacher had these attempts accepted."""
    asked = range(part.first, part.last) if part is not None else range(len(problems))
    rows, rejections, refused = [], [], []
    for index in asked:
        problem_id = problems[index].problem_id
        for number, is_accepted in enumerate(said[index]):
            kept = rows if is_accepted else refused
            kept.append(rationale(problem_id, number, "" if is_accepted else "incorrect"))
        if not any(said[index]):
            rejections.append(
                Rejection(problem_id=problem_id, stage="rationales", reason="x", detail="")
            )
    unit = TeachUnit(
        name=UnitName(stage="rationales", stage_key="k", unit="sums-000000", attempt=attempt),
        problems=NOWHERE,
        selection=NOWHERE,
        part=part,
    )
    return write_made(run_dir, unit, problems, rows, rejections, lambda entry: [], refused)


@given(
    said=st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=9),
    data=st.data(),
)
def test_parts_of_a_unit_of_rationales_merge_to_its_own_bytes(
    said: list[Attempts], data: st.DataObject
) -> None:
    num = len(said)
    problems = [
        # Their order is that of the unit, and not that of their names.
        Problem(problem_id=f"{-n}", task="sums", question="", target="", answer_type="exact")
        for n in range(num)
    ]
    cuts = sorted({0, num, *data.draw(st.lists(st.integers(0, num)))})
    spans = data.draw(st.permutations(list(itertools.pairwise(cuts))))
    is_lost = data.draw(st.booleans())
    with tempfile.TemporaryDirectory() as name:
        run_dir = Path(name)
        lost = tuple(range(*spans.pop())) if is_lost else ()
        done = tuple(
            made_of(run_dir, problems, said, Part(first=first, last=last), 2 + number)
            for number, (first, last) in enumerate(spans)
        )
        merge = Part(first=0, last=0, is_merge=True, done=done, lost=lost)
        merged = made_of(run_dir, problems, said, merge, 99)
        whole = made_of(run_dir, problems, said, None, 1)
        if not is_lost:
            assert merged.counts == whole.counts
            assert [e.sha256 for e in merged.files] == [e.sha256 for e in whole.files]
        left = {p.problem_id for n, p in enumerate(problems) if n not in lost}
        expected = read_records(run_dir, whole.accepted, Rationale)
        found = read_records(run_dir, merged.accepted, Rationale)
        assert found == [row for row in expected if row.problem_id in left]
        assert merged.taken_in == num


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=9))
def test_the_rate_of_rejected_problems_does_not_fall_with_the_rationales_of_others(
    said: list[Attempts],
) -> None:
    problems = [
        Problem(problem_id=f"{n}", task="sums", question="", target="", answer_type="exact")
        for n in range(len(said))
    ]
    tally = Tally(limits=DispatchConfig())
    with tempfile.TemporaryDirectory() as name:
        tally.add(made_of(Path(name), problems, said, None, 1))
    assert tally.input == len(said)
    assert tally.rejected == sum(not any(attempts) for attempts in said)


@given(data=st.data())
def test_a_block_that_takes_cells_made_ahead_of_it_has_the_bytes_of_one_that_asks_for_all(
    data: st.DataObject,
) -> None:
    group = Group(name="sums", num_problems=12, num_groups=2)
    rule = dataclasses.replace(RULE, method="race", delta=0.9, block_size=6)
    step = next_step(group, rule, {})
    assert isinstance(step, Block)
    names = step.strategies[: data.draw(st.integers(1, len(step.strategies)))]
    scores = {(row.problem_id, row.strategy): row for row in draw_scores(data, step)}
    ids = list(dict.fromkeys(problem_id for problem_id, _ in scores))
    problems = [
        Problem(problem_id=each, task="sums", question="", target="", answer_type="exact")
        for each in ids
    ]
    # Chunks are of more strategies than are left, and the last may reach into the next block.
    num = data.draw(st.integers(1, len(ids)))
    bounds = sorted({0, len(ids), *data.draw(st.lists(st.integers(0, len(ids))))})
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)

        def made(unit: str, ids: list[str], strategies: tuple[str, ...], part: Part | None) -> Any:
            asked = [] if part is not None and part.is_merge else ids
            score_unit = ScoreUnit(
                name=UnitName(stage="scores", stage_key="k", unit=unit),
                rows=((NOWHERE, tuple(range(len(ids)))),),
                strategies=strategies,
                role="student",
                budget=Budget(max_tokens=1, max_model_len=None),
                part=part,
            )
            rows = [scores[each, name] for name in strategies for each in asked]
            about = [problem for problem in problems if problem.problem_id in ids]
            return write_made(run_dir, score_unit, about, rows, [], lambda entry: [])

        chunks = [
            made(f"{first}-ahead", ids[first:last], step.strategies, Part(first=0, last=last))
            for first, last in itertools.pairwise(bounds)
            if first < num
        ]
        done = tuple(data.draw(st.permutations(chunks)))
        merge = Part(first=0, last=0, is_merge=True, done=done)
        merged = made("sums-000000", ids[:num], names, merge)
        whole = made("sums-000001", ids[:num], names, None)
        assert merged.counts == whole.counts
        read = [read_records(run_dir, r.accepted, StudentScore) for r in (merged, whole)]
        assert read[0] == read[1] and len(read[1]) == num * len(names)
