"""Packed rows -> batches of tensors, in an order that a step's number alone determines.

Shapes: B rows of a forward pass on this rank, T tokens per row.

A row holds whole examples, one after the other, then padding. Position ids restart at 0 with each
example and stay 0 in the padding, which so counts in no rotary scaling. Given these, no attention
mask and no cache, transformers lets a token attend only inside its own example
(`masking_utils.find_packed_sequence_indices`), in the models for which `isolation` found that it
does. The others get the same examples in rows of their own, in the same steps, and so do all where
that is cheaper: the mask of packed rows makes attention compute every pair of a row's tokens, and
throw most of them away, while a row of one example needs no mask but the causal one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from train.layouts import Layout, RowCosts, cheaper_layout, of_like_length
from train.packing import Packing

IGNORE_INDEX = -100
PADDING_INDEX = -200


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Encoded:
    """An example as token ids."""

    input_ids: np.ndarray[Any, np.dtype[Any]]
    labels: np.ndarray[Any, np.dtype[Any]]
    """`input_ids` where there is loss, IGNORE_INDEX where there is none, as on the first token,
    which nothing predicts."""

    @property
    def num_labels(self) -> int:
        """Tokens with loss."""
        return int(np.count_nonzero(self.labels != IGNORE_INDEX))


def encoded(input_ids: Sequence[int] | np.ndarray[Any, np.dtype[Any]], num_prompt: int) -> Encoded:
    """An example whose tokens have loss but for the first `num_prompt` of them, at least one."""
    ids = np.asarray(input_ids, dtype=np.int64)
    labels = ids.copy()
    labels[: max(1, num_prompt)] = IGNORE_INDEX
    return Encoded(input_ids=ids, labels=labels)


class EncodedExamples(Protocol):
    """Examples by index; a list of them is one."""

    def __getitem__(self, index: int, /) -> Encoded: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardPass:
    """Rows that pass through the model together."""

    input_ids_BT: torch.Tensor
    labels_BT: torch.Tensor
    """`input_ids` where there is loss, IGNORE_INDEX where there is none, PADDING_INDEX in the
    padding; not shifted, the loss does that."""
    position_ids_BT: torch.Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One rank's rows of one optimizer step."""

    passes: tuple[ForwardPass, ...]
    num_labelled_tokens: int
    num_tokens: int
    """Tokens without padding."""
    sum_of_squares: int
    """Of the examples' lengths, which is what attention costs."""

    @property
    def num_slots(self) -> int:
        """Tokens with padding."""
        return sum(each.labels_BT.numel() for each in self.passes)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PackedExamples:
    """Examples and the rows that they are packed into; a mixture has several."""

    examples: EncodedExamples
    packing: Packing
    weight: float = 1.0
    """Passes over the rows in one epoch."""
    lengths: Sequence[int] | np.ndarray[Any, np.dtype[Any]] = ()
    """Tokens of each example; only `costs` need them."""

    @property
    def rows_per_epoch(self) -> int:
        """Rows of one epoch, at least one."""
        return max(1, round(self.weight * len(self.packing.rows)))


def packed_batches(
    mixture: Sequence[PackedExamples],
    *,
    rows_per_step: int,
    seed: int,
    layout: Layout = "packed",
    costs: RowCosts | None = None,
    rows_per_forward: int | None = None,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """Endless batches from `start_step` on; `rows_per_step` counts the packed rows of all ranks.

    With `costs`, packed rows are passed apart in the steps in which that is cheaper.

    Step s takes the rows from s * rows_per_step on of an endless stream: epoch after epoch, each in
    its own permutation. So a step may reach into the next epoch, and the step alone is the position
    in the data.

    Raises:
        ValueError: the ranks cannot share the rows evenly.
    """
    if rows_per_step % world_size:
        raise ValueError(
            f"rows_per_step is {rows_per_step} on {world_size} ranks; give a multiple of the ranks"
        )
    share = rows_per_step // world_size
    seq_len = max(part.packing.seq_len for part in mixture)
    first = start_step * rows_per_step
    while True:
        # All ranks see the rows of all, so that they choose alike: the slowest one decides.
        step = stream_rows(first, rows_per_step, mixture, seed=seed)
        chosen = layout
        if layout == "packed" and costs is not None:
            lengths = [
                [int(mixture[place].lengths[index]) for index in mixture[place].packing.rows[row]]
                for place, row in step
            ]
            ranks = [lengths[start : start + share] for start in range(0, rows_per_step, share)]
            chosen = cheaper_layout(ranks, seq_len, costs, rows_per_forward=rows_per_forward)
        rows = [
            [mixture[place].examples[index] for index in mixture[place].packing.rows[row]]
            for place, row in step[rank * share : (rank + 1) * share]
        ]
        yield build_batch(rows, seq_len, layout=chosen, rows_per_forward=rows_per_forward)
        first += rows_per_step


def stream_rows(
    first: int, count: int, mixture: Sequence[PackedExamples], *, seed: int
) -> list[tuple[int, int]]:
    """The rows at places `first` to `first + count` of the endless stream: part and row in it."""
    ends = np.cumsum([part.rows_per_epoch for part in mixture])
    num_rows = int(ends[-1])
    rows: list[tuple[int, int]] = []
    while len(rows) < count:
        epoch, start = divmod(first + len(rows), num_rows)
        permutation = _permutation((seed, epoch), num_rows)
        for index in permutation[start : start + count - len(rows)].tolist():
            place = int(np.searchsorted(ends, index, side="right"))
            in_part = index - int(ends[place]) + mixture[place].rows_per_epoch
            rows.append((place, _row_of(mixture[place], place, epoch, in_part, seed)))
    return rows


def _row_of(part: PackedExamples, place: int, epoch: int, index: int, seed: int) -> int:
    """The row of a part that stands for the epoch's row `index` of it.

    A part that an epoch takes in other than whole passes goes on in the next epoch where it was.
    """
    num_rows = len(part.packing.rows)
    if part.rows_per_epoch == num_rows:
        return index
    passes, row = divmod(epoch * part.rows_per_epoch + index, num_rows)
    return int(_permutation((seed, place, passes), num_rows)[row])


# Drawn anew for each row, a permutation of a million rows takes longer than a step of a GPU.
@functools.lru_cache(maxsize=16)
def _permutation(words: tuple[int, ...], num_rows: int) -> Any:
    """A permutation of so many rows that these words determine."""
    return np.random.default_rng(list(words)).permutation(num_rows).astype(np.int32)


def build_batch(
    rows: Sequence[Sequence[Encoded]],
    seq_len: int,
    *,
    layout: Layout = "packed",
    rows_per_forward: int | None = None,
) -> Batch:
    """The Batch of these packed rows of examples.

    Args:
        rows: examples of each row.
        seq_len: most tokens of a row.
        layout: whether the rows are passed as they are, or example by example.
        rows_per_forward: a pass has at most so many rows of `seq_len` slots; None is all rows.
    """
    share = rows_per_forward or len(rows)
    examples = [example for row in rows for example in row]
    if layout == "packed":
        groups = [rows[first : first + share] for first in range(0, len(rows), share)]
        passes = [_forward_pass(group, seq_len) for group in groups]
    else:
        examples.sort(key=lambda each: -len(each.input_ids))
        num_slots = share * seq_len if layout == "apart" else 0
        passes, start = [], 0
        for size in of_like_length([len(each.input_ids) for each in examples], num_slots):
            group = [[each] for each in examples[start : start + size]]
            width = len(examples[start].input_ids)
            passes.append(_forward_pass(group, width, restarts=False))
            start += size
    return Batch(
        passes=tuple(passes),
        num_labelled_tokens=sum(example.num_labels for example in examples),
        num_tokens=sum(len(example.input_ids) for example in examples),
        sum_of_squares=sum(len(example.input_ids) ** 2 for example in examples),
    )


def _forward_pass(
    rows: Sequence[Sequence[Encoded]], num_slots: int, *, restarts: bool = True
) -> ForwardPass:
    """The rows, each padded to `num_slots` tokens.

    Where nothing restarts, a row holds one example and attention needs no mask but the causal one.
    """
    # Padding takes token 0: no example attends to it and it has no label, so any id would do.
    input_ids_BT = np.zeros((len(rows), num_slots), dtype=np.int64)
    labels_BT = np.full((len(rows), num_slots), PADDING_INDEX, dtype=np.int64)
    positions = np.arange(num_slots)
    position_ids_BT = np.zeros((len(rows), num_slots), dtype=np.int64)
    if not restarts:
        position_ids_BT[:] = positions
    for b, row in enumerate(rows):
        start = 0
        for example in row:
            length = len(example.input_ids)
            end = start + length
            assert end <= num_slots and example.labels[0] == IGNORE_INDEX
            input_ids_BT[b, start:end] = example.input_ids
            labels_BT[b, start:end] = example.labels
            position_ids_BT[b, start:end] = positions[:length]
            start = end
    return ForwardPass(
        input_ids_BT=torch.from_numpy(input_ids_BT),
        labels_BT=torch.from_numpy(labels_BT),
        position_ids_BT=torch.from_numpy(position_ids_BT),
    )
