"""The examples with which a model is probed: a few tokens that its config gives no meaning.

Shapes: T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from train.batches import Encoded, ForwardPass, build_batch, encoded

LENGTHS = (9, 4, 23)
"""Tokens of the example that is measured, and of its two companions: one is shorter, one so much
longer that what picks a few tokens among all picks others (`tiny_copy.REACH`)."""
LOSS_TOLERANCE = 1e-4
"""Relative difference that rounding explains: float32 in another order, through a hundred
layers."""


def probe_examples(model: Any) -> list[Encoded]:
    """Three examples of LENGTHS tokens, all of them different, with a prompt of one."""
    ids = iter(plain_ids(model))
    return [encoded([next(ids) for _ in range(n)], 1) for n in LENGTHS]


def one_row(examples: Sequence[Encoded]) -> ForwardPass:
    """One row of these examples without padding."""
    num_slots = sum(len(example.input_ids) for example in examples)
    [row] = build_batch([examples], num_slots).passes
    return row


def plain_ids(model: Any) -> list[int]:
    """Different token ids that a model's config gives no meaning, in a fixed random order."""
    config = model.config.get_text_config()
    size = model.get_input_embeddings().weight.shape[0]
    special: set[int] = set()
    for name, value in {**model.config.to_dict(), **config.to_dict()}.items():
        if name.endswith(("token_id", "token_index")):
            special |= {value} if isinstance(value, int) else set(value or ())
    plain = [i for i in range(min(size, 50_000)) if i not in special]
    order = torch.randperm(len(plain), generator=torch.Generator().manual_seed(0)).tolist()
    ids = [plain[i] for i in order[: sum(LENGTHS)]]
    if len(ids) < sum(LENGTHS):
        raise ValueError(f"its vocabulary has {size} tokens")
    return ids
