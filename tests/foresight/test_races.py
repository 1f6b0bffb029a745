from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from orca2_gen.foresight.amounts import Races
from orca2_gen.foresight.races import Block, RaceFutures
from orca2_gen.records import StudentScore
from orca2_gen.run_directory.units import Receipt, UnitName, write_unit
from orca2_gen.selection.blocks import SURVIVORS, Group, block_unit, open_blocks
from orca2_gen.selection.decision import survivor_bits, survivors
from tests.foresight.rules import RULE


def group(name: str, num_groups: int = 1, *, is_judged: bool = False) -> Group:
    return Group(name=name, num_problems=150, num_groups=num_groups, is_judged=is_judged)


def raced(
    run_dir: Path, each: Group, accuracy: Mapping[str, float], num_blocks: int, seed: int = 0
) -> list[Receipt]:
    """The receipts of a group's first blocks, fewer if its race ends before."""
    rng = np.random.default_rng(seed)
    scored: dict[int, list[StudentScore]] = {}
    left: dict[int, tuple[str, ...]] = {}
    receipts = []
    rule = RULE.of(each)
    for _ in range(num_blocks):
        blocks = open_blocks(each, rule, left)
        if not blocks:
            break
        rows = [
            StudentScore(
                problem_id=str(number),
                task=each.name,
                strategy=name,
                role="student",
                attempt=0,
                outcome="correct",
                score=float(rng.random() < accuracy.get(name, 0.5)),
                answer="",
                text="",
                finish_reason="stop",
                num_prompt_tokens=1,
                num_cached_tokens=0,
                num_completion_tokens=10,
            )
            for name in blocks[0].strategies
            for number in blocks[0].problems
        ]
        index = blocks[0].index
        scored[index] = rows
        left[index] = survivors(each, rule, scored)
        name = UnitName(
            stage="scores", stage_key="k", unit=block_unit(each, index), group=each.name
        )
        counts = {SURVIVORS: survivor_bits(each, rule, scored)} if rule.is_race else {}
        receipts.append(write_unit(run_dir, name, rows, StudentScore, counts=counts))
    return receipts


def num_cells(blocks: Sequence[Block]) -> int:
    return sum(num for block in blocks for num, _ in block.values())


def futures_of(run_dir: Path, groups: list[Group], receipts: list[Receipt]) -> RaceFutures:
    races = Races(run_dir=run_dir, groups=tuple(groups), rule=RULE, committed=())
    futures = RaceFutures(races)
    for receipt in receipts:
        futures.add(receipt)
    return futures


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.integers(1, 30), st.integers(0, 9))
def test_a_future_plays_every_undecided_race_to_an_end_within_its_grid(
    accuracies: list[float], num_blocks: int, seed: int
) -> None:
    with TemporaryDirectory() as folder:
        run_dir = Path(folder)
        groups = [group("g", 2), group("h", 2)]
        accuracy = dict(zip(RULE.strategies, accuracies, strict=True))
        receipts = raced(run_dir, groups[0], accuracy, num_blocks, seed)
        futures = futures_of(run_dir, groups, receipts)
        done = sum(receipt.counts["accepted"] for receipt in receipts)
        # The cautious message is asked beside the strategies.
        grid = 150 * (len(RULE.strategies) + 1)
        survivors_now = receipts[-1].counts[SURVIVORS].bit_count()
        is_decided = survivors_now == 1 or len(receipts) * RULE.block_size >= 150
        for future in futures.futures(np.random.default_rng(seed), 2):
            assert future.share == 1.0
            assert len(future.races) == 2 - is_decided
            for blocks in future.races:
                assert blocks and all(min(num for num, _ in rows.values()) > 0 for rows in blocks)
            cells = [
                sum(num for rows in blocks for num, _ in rows.values()) for blocks in future.races
            ]
            if not is_decided:
                assert cells[0] <= grid - done + 1e-6
            assert cells[-1] <= grid + 1e-6


def test_races_that_strategies_end_soon_are_foretold_short_and_ties_long(tmp_path: Path) -> None:
    def expected(accuracy: Mapping[str, float]) -> float:
        run_dir = tmp_path / str(accuracy["a"])
        groups = [group(f"g{place}", 12) for place in range(12)]
        receipts = [
            receipt
            for place in range(8)
            for receipt in raced(run_dir, groups[place], accuracy, 3, seed=place)
        ]
        futures = futures_of(run_dir, groups, receipts).futures(np.random.default_rng(0), 3)
        unseen = [blocks for future in futures for blocks in future.races[-4:]]
        return float(np.mean([num_cells(blocks) for blocks in unseen]))

    clear, tied = expected({"a": 0.95, "b": 0.1, "c": 0.2}), expected({"a": 0.5, "b": 0.5})
    assert clear < 0.5 * tied
    assert tied > 0.6 * 150 * 4


def test_nothing_is_drawn_while_no_race_has_a_block(tmp_path: Path) -> None:
    futures = futures_of(tmp_path, [group("g")], [])
    assert futures.futures(np.random.default_rng(0), 3) == []


def test_a_judged_group_is_scored_to_its_end(tmp_path: Path) -> None:
    judged = group("g", is_judged=True)
    receipts = raced(tmp_path, judged, {}, 5)
    [future] = futures_of(tmp_path, [judged], receipts).futures(np.random.default_rng(0), 1)
    left = 150 - 5 * RULE.block_size
    assert future.races == [[dict.fromkeys((*RULE.strategies, "cautious"), (left, left))]]


def test_a_block_that_cannot_be_read_leaves_its_race_as_far_as_it_has_come(tmp_path: Path) -> None:
    receipts = raced(tmp_path, group("g"), {"a": 0.6, "b": 0.55, "c": 0.5}, 30)
    (tmp_path / receipts[1].accepted.path).unlink()
    futures = futures_of(tmp_path, [group("g")], receipts)
    [future] = futures.futures(np.random.default_rng(0), 1)
    assert future.races == []
