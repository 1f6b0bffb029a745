"""Packed rows -> batches of tensors, in an order that a step's number alone determines.

Shapes: B rows of this rank, T tokens per row (`seq_len`).

A row holds whole examples, one after the other, then padding. Position ids restart at 0 with each
example and with the padding. Given these, no attention mask and no cache, transformers lets a token
attend only inside its own example (`masking_utils.find_packed_sequence_indices`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from train.packing import Packing

IGNORE_INDEX = -100


class Encoded(Protocol):
    """An example as token ids; `records.Example` is one."""

    @property
    def input_ids(self) -> Sequence[int] | np.ndarray[Any, np.dtype[Any]]: ...

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens without loss. 0 and 1 mean the same, since nothing predicts the first token."""
        ...


class EncodedExamples(Protocol):
    """Examples by index; a list of them is one."""

    def __getitem__(self, index: int, /) -> Encoded: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One rank's rows of one optimizer step."""

    input_ids_BT: torch.Tensor
    labels_BT: torch.Tensor
    """`input_ids` where there is loss, else IGNORE_INDEX; not shifted, the loss does that."""
    position_ids_BT: torch.Tensor
    num_labelled_tokens: int
    num_tokens: int
    """Tokens without padding."""


def packed_batches(
    examples: EncodedExamples,
    packing: Packing,
    *,
    rows_per_step: int,
    seed: int,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """Endless batches from `start_step` on; `rows_per_step` counts the rows of all ranks.

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
    first = start_step * rows_per_step + rank * share
    while True:
        rows = stream_rows(first, share, num_rows=len(packing.rows), seed=seed)
        yield build_batch(
            [[examples[index] for index in packing.rows[row]] for row in rows], packing.seq_len
        )
        first += rows_per_step


def stream_rows(first: int, count: int, *, num_rows: int, seed: int) -> list[int]:
    """The rows at places `first` to `first + count` of the endless stream."""
    rows: list[int] = []
    while len(rows) < count:
        epoch, start = divmod(first + len(rows), num_rows)
        permutation = np.random.default_rng([seed, epoch]).permutation(num_rows)
        rows += permutation[start : start + count - len(rows)].tolist()
    return rows


def build_batch(rows: Sequence[Sequence[Encoded]], seq_len: int) -> Batch:
    """The Batch of these rows of examples, each row padded to `seq_len`."""
    # Padding takes token 0: no example attends to it and it has no label, so any id would do.
    input_ids_BT = np.zeros((len(rows), seq_len), dtype=np.int64)
    labels_BT = np.full((len(rows), seq_len), IGNORE_INDEX, dtype=np.int64)
    position_ids_BT = np.empty((len(rows), seq_len), dtype=np.int64)
    positions = np.arange(seq_len)
    num_tokens = num_labelled_tokens = 0
    for b, row in enumerate(rows):
        start = 0
        for example in row:
            length = len(example.input_ids)
            end, answer = start + length, start + max(1, example.num_prompt_tokens)
            assert end <= seq_len and answer <= end
            input_ids_BT[b, start:end] = example.input_ids
            labels_BT[b, answer:end] = input_ids_BT[b, answer:end]
            position_ids_BT[b, start:end] = positions[:length]
            num_labelled_tokens += end - answer
            start = end
        position_ids_BT[b, start:] = positions[: seq_len - start]
        num_tokens += start
    return Batch(
        input_ids_BT=torch.from_numpy(input_ids_BT),
        labels_BT=torch.from_numpy(labels_BT),
        position_ids_BT=torch.from_numpy(position_ids_BT),
        num_labelled_tokens=num_labelled_tokens,
        num_tokens=num_tokens,
    )
