"""Whole examples -> rows of at most `seq_len` tokens; a pure function that cuts nothing."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Packing:
    """The examples of each row; every example is in exactly one."""

    rows: tuple[tuple[int, ...], ...]
    """Indices of examples; a row's lengths sum to at most `seq_len`."""
    seq_len: int
    num_tokens: int
    """Tokens of all examples together."""

    @property
    def fill(self) -> float:
        """Tokens over slots."""
        return self.num_tokens / (len(self.rows) * self.seq_len)


def pack(
    lengths_E: Sequence[int] | np.ndarray[Any, np.dtype[Any]],
    *,
    seq_len: int,
    seed: int,
    name_of: Callable[[int], str] = str,
) -> Packing:
    """The Packing of examples with these lengths: best fit, longest first.

    The same arguments give the same rows. The seed decides which of equally long examples share a
    row, and the order of the rows.

    Args:
        lengths_E: tokens of each of E examples.
        seq_len: tokens per row.
        seed: seed of the two shuffles.
        name_of: an example's index -> its name in an error.

    Raises:
        ValueError: there is no example, or one is empty or longer than a row.
    """
    lengths: list[int] = np.asarray(lengths_E, dtype=np.int64).tolist()
    if not lengths:
        raise ValueError("there is no example to pack; give at least one")
    for index, length in enumerate(lengths):
        if not 1 <= length <= seq_len:
            raise ValueError(_misfit(name_of(index), lengths, length, seq_len))
    generator = random.Random(seed)
    order = list(range(len(lengths)))
    generator.shuffle(order)
    order.sort(key=lambda index: -lengths[index])  # stable: equal lengths stay shuffled

    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}  # free slots -> rows with exactly that many
    free: list[int] = []  # the keys of open_rows, sorted; at most seq_len, so insertion is cheap
    for index in order:
        length = lengths[index]
        place = bisect_left(free, length)
        if place == len(free):
            row, space = len(rows), seq_len
            rows.append([])
        else:
            space = free[place]
            row = open_rows[space].pop()
            if not open_rows[space]:
                del open_rows[space], free[place]
        rows[row].append(index)
        left = space - length
        if left:
            if left not in open_rows:
                open_rows[left] = []
                insort(free, left)
            open_rows[left].append(row)
    generator.shuffle(rows)
    return Packing(rows=tuple(tuple(row) for row in rows), seq_len=seq_len, num_tokens=sum(lengths))


def _misfit(name: str, lengths: Sequence[int], length: int, seq_len: int) -> str:
    if length < 1:
        return f"example {name} has no tokens; remove it from the dataset"
    too_long = sum(length > seq_len for length in lengths)
    return (
        f"example {name} has {length} tokens and a row has {seq_len} (seq_len); {too_long} of "
        f"{len(lengths)} examples are too long and none is ever cut: set seq_len to "
        f"{max(lengths)} or more, or remove them"
    )
