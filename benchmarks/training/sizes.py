"""What is trained: a model of random weights, and examples of realistic lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from train.batches import Encoded, encoded
from train.packing import Packing, pack
from train.ranks import device

WARM_STEPS = 1
"""Steps of each trial that are not measured."""
LEARNING_RATE = 1e-4
_SHORTEST = 16
_SPREAD = 0.6
"""Standard deviation of the logarithm of a length, roughly that of answers to GSM8K."""
_PROMPT_SHARE = 0.4
"""Share of an example that has no loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """What is trained, and how often."""

    hidden: int
    layers: int
    vocabulary: int
    seq_len: int
    rows_per_step: int
    rows_per_forward: int
    mean_tokens: float
    """Mean length of an example."""
    steps: int
    pairs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """The examples, and the rows that they are packed into."""

    examples: Sequence[Encoded]
    packing: Packing


def model_of(sizes: Sizes) -> Any:
    """A Llama of random weights, the same for every trial."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=max(1, sizes.hidden // 64),
        intermediate_size=sizes.hidden * 11 // 4,
        vocab_size=sizes.vocabulary,
        max_position_embeddings=sizes.seq_len,
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").to(device())


def data_of(sizes: Sizes) -> Data:
    """Examples for twice as many rows as the steps of a trial read: no trial comes to an end of
    them, where some trainers make a shorter step.
    """
    rng = np.random.default_rng(0)
    slots = 2 * sizes.seq_len * sizes.rows_per_step * (sizes.steps + WARM_STEPS)
    lengths: list[int] = []
    while sum(lengths) < slots:
        lengths += lengths_of(sizes, 1, rng)
    examples = [
        encoded(rng.integers(0, sizes.vocabulary, length), int(_PROMPT_SHARE * length))
        for length in lengths
    ]
    return Data(examples=examples, packing=pack(lengths, seq_len=sizes.seq_len, seed=0))


def lengths_of(sizes: Sizes, num: int, rng: np.random.Generator) -> list[int]:
    """The lengths of so many examples."""
    drawn = rng.lognormal(np.log(sizes.mean_tokens) - _SPREAD**2 / 2, _SPREAD, num)
    return [int(length) for length in np.clip(drawn, _SHORTEST, sizes.seq_len)]


def dtype_of() -> torch.dtype:
    return torch.bfloat16 if device().type == "cuda" else torch.float32
