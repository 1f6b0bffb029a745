"""The rows in which a step's examples are passed, and which of them cost less."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Layout = Literal["packed", "apart", "alone"]
"""Rows of a forward pass: packed rows, as `packing` has them; a row for each of their examples,
padded to the longest; or one example without padding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowCosts:
    """What decides whether the examples of packed rows are cheaper in rows of their own."""

    operations: Callable[[float, float], float]
    """Slots, and pairs of slots that attention computes -> operations."""
    causal_share: float = 0.5
    """Share of the pairs of a row of one example that attention computes: the causal half, or all
    of them where a mask says so."""
    most_passes: float = math.inf
    """Most passes of a rank over those of packed rows: each gathers the weights of sharded layers
    again."""


def cheaper_layout(
    ranks: Sequence[Sequence[Sequence[int]]],
    seq_len: int,
    costs: RowCosts,
    *,
    rows_per_forward: int | None = None,
) -> Layout:
    """Whether the packed rows of a step are passed as they are, or their examples apart.

    Args:
        ranks: for each rank its rows, each as the lengths of its examples.
        seq_len: most tokens of a row.
        costs: what passes cost.
        rows_per_forward: a pass has at most so many rows of `seq_len` slots; None is all rows.
    """
    num_rows = max(map(len, ranks))
    share = rows_per_forward or num_rows
    operations, num_passes = 0.0, 0
    for rows in ranks:  # which go from pass to pass together
        lengths = sorted((length for row in rows for length in row), reverse=True)
        slots = pairs = start = 0
        sizes = list(of_like_length(lengths, share * seq_len))
        for size in sizes:
            slots, pairs = slots + size * lengths[start], pairs + size * lengths[start] ** 2
            start += size
        operations = max(operations, costs.operations(slots, costs.causal_share * pairs))
        num_passes = max(num_passes, len(sizes))
    packed = costs.operations(num_rows * seq_len, num_rows * seq_len**2)
    is_few = num_passes <= costs.most_passes * math.ceil(num_rows / share)
    return "apart" if is_few and operations < packed else "packed"


def of_like_length(lengths: Sequence[int], num_slots: int) -> Iterator[int]:
    """The sizes of groups of examples, longest first, that take at most `num_slots` when padded."""
    size = longest = 0
    for length in lengths:
        if size and (size + 1) * longest > num_slots:
            yield size
            size = 0
        longest = longest if size else length
        size += 1
    if size:
        yield size
