"""The rows of an embedding or a head -> rows for new tokens.

A new row is the mean of the rows that the base model was trained with, and a little noise of their
covariance, as in J. Hewitt, "Initializing New Word Embeddings for Pretrained Language Models"
(2021, https://nlp.stanford.edu/~johnhew/vocab-expansion.html):

- In the head, the logit of such a row is the mean of the others, so before training a new token
  gets at most the mean share of the probability, whatever the context: the model goes on as the
  base model. A row of zeros has the logit 0, and where all others are far below it, as in many
  models, the model would write nothing but the new token.
- In the embedding, the mean lies where the layers expect a token, which zeros do not. A tied head
  has the same row, and needs both.
- The noise parts the new tokens from each other; it is 0.3 % of the rows' own spread, so that the
  bound holds.

The seed is fixed, so that the same model gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

NOISE = 1e-5
"""The covariance of the noise, as a share of that of the rows."""
_SEED = 20231121
_BLOCK_BYTES = 16 << 20


def new_rows(path: Path, name: str, trained: Collection[int], count: int, stream: int) -> list[Any]:
    """Rows for new tokens, as torch tensors of the type of the others; a bias has numbers as rows.

    Args:
        path: a safetensors file.
        name: the tensor in it with a row for each token.
        trained: the rows that the base model was trained with.
        count: how many rows.
        stream: a number that parts the noise of one tensor from that of another.

    Raises:
        ValueError: a row is not finite.
    """
    import torch
    from safetensors import safe_open

    noise = torch.Generator().manual_seed(_SEED + stream)
    with safe_open(path, framework="pt") as file:
        rows = file.get_slice(name)
        num, *inner = rows.get_shape()
        width = math.prod(inner)
        is_trained = torch.zeros(num, dtype=torch.bool)
        is_trained[[row for row in trained if row < num]] = True
        step = max(1, _BLOCK_BYTES // (8 * width))
        total = torch.zeros(width, dtype=torch.float64)
        drawn = torch.zeros(count, width, dtype=torch.float64)
        weights = torch.zeros(count, dtype=torch.float64)
        for start in range(0, num, step):
            block = rows[start : start + step]
            kept = block[is_trained[start : start + step]].reshape(-1, width).to(torch.float64)
            # A sum of the rows, each times a normal number, has their covariance; it needs no
            # matrix as wide as it is high.
            normal = torch.randn(count, len(kept), generator=noise, dtype=torch.float64)
            total += kept.sum(0)
            drawn += normal @ kept
            weights += normal.sum(1)
        dtype = block.dtype
    num_trained = int(is_trained.sum())
    mean = total / num_trained
    spread = drawn - weights[:, None] * mean
    made = (mean + (NOISE / max(1, num_trained - 1)) ** 0.5 * spread).to(dtype)
    if not bool(torch.isfinite(made).all()):
        raise ValueError(
            f"MODEL: {name} in {path} holds numbers that are not finite; copy the model again"
        )
    return list(made)
