from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.records import StudentScore
from orca2_gen.run_directory.units import Receipt
from orca2_gen.selection.blocks import SURVIVORS, Block, Group, Rule, survivors_of
from orca2_gen.selection.decision import next_step, survivor_bits, survivors
from ray_jobs.dispatch.unit_receipts import token_counts
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
