"""What a unit's receipt counts beside its rows: tokens, who is still in a race, and whether an
engine worked at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orca2_gen.records import Rationale, StudentScore
from orca2_gen.run_directory.ledger import Receipt
from orca2_gen.selection.blocks import Group, Rule
from orca2_gen.selection.decision import survivors

SURVIVORS = "survivors"
"""A count in the receipt of a race's block: bit i is set iff strategy i is still in, so that the
driver need not read scores to know the next block."""
REGRADED = "regraded"
"""A count in the receipt of a unit that no engine made: its rows are another run's completions,
graded anew."""


def token_counts(rows: Sequence[StudentScore] | Sequence[Rationale]) -> dict[str, int]:
    """What the engine did for these rows, in tokens; attempts that were cut short included."""
    return _sums([completion for row in rows for completion in row.completions or (row,)])


def reply_counts(rows: Sequence[StudentScore]) -> dict[str, int]:
    """What the judge's engine did for these rows, in tokens."""
    return _sums([reply for row in rows for reply in row.judgement])


def _sums(made: Sequence[Any]) -> dict[str, int]:
    return {
        "prompt_tokens": sum(each.num_prompt_tokens for each in made),
        "completion_tokens": sum(each.num_completion_tokens for each in made),
        "cached_tokens": sum(
            each.num_cached_tokens for each in made if not isinstance(each, Rationale)
        ),
    }


def survivor_bits(group: Group, rule: Rule, blocks: Mapping[int, Sequence[StudentScore]]) -> int:
    """Who is still in after the last of these blocks, as SURVIVORS says it; `blocks` are all of
    the race up to there.
    """
    left = survivors(group, rule, blocks)
    return sum(1 << bit for bit, name in enumerate(rule.strategies) if name in left)


def survivors_of(receipt: Receipt, rule: Rule) -> tuple[str, ...]:
    """The strategies still in after a committed block."""
    if not rule.is_race:
        return rule.strategies
    mask = receipt.counts[SURVIVORS]
    return tuple(name for bit, name in enumerate(rule.strategies) if mask >> bit & 1)
