"""The floating-point operations that a training step needs, and the share of the peak it reaches.

    MFU = tokens per second x (6 N + 12 L D C) / peak

N are the parameters that a token is multiplied with: all but the input embeddings, and of experts
those that a token is sent to. L is the number of layers, D the size of all heads of one, C the
mean number of tokens of the example that a token belongs to. This is the definition of PaLM (arXiv
2204.02311, appendix B), with examples in place of rows: what a packed row computes between examples
is no use. Recomputed activations and padding count as nothing. A weight that LoRA leaves as it is
counts 4 times in place of 6, since it gets no gradient.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch

from train.lora import has_lora

PEAKS = {
    "NVIDIA A100": 312e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA GH200": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L4": 121e12,
}
"""Beginning of a device's name -> dense bfloat16 operations per second, from its data sheet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingFlops:
    """The operations of a token, forward and backward."""

    per_token: float
    """What a token costs whatever stands before it: 6 N, with LoRA about 4 N."""
    per_token_and_length: float
    """What it costs for each token of its example: 12 L D."""

    def of(self, num_tokens: float, sum_of_squares: float) -> float:
        """The operations of examples with so many tokens, the squares of whose lengths sum up."""
        return self.per_token * num_tokens + self.per_token_and_length * sum_of_squares


def training_flops(model: Any) -> TrainingFlops:
    """The TrainingFlops of a model of transformers, whole or sharded."""
    config = model.config.get_text_config()
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    table = id(embeddings.weight)
    is_tied = any(id(parameter) == table for parameter in head.parameters())
    share = _share_of_experts(config)
    frozen = 4.0 if has_lora(model) else 6.0
    per_token = 0.0
    for parameter in model.parameters():
        if id(parameter) == table and not is_tied:
            continue
        # Experts lie in one tensor, one behind the other.
        num = parameter.numel() * (share if parameter.ndim == 3 else 1.0)
        per_token += num * (6.0 if parameter.requires_grad else frozen)
    layers = int(getattr(config, "num_hidden_layers", 0))
    heads = int(getattr(config, "num_attention_heads", 0) or 0)
    width = int(getattr(config, "hidden_size", 0))
    head_dim = int(getattr(config, "head_dim", None) or (width // heads if heads else 0))
    return TrainingFlops(per_token=per_token, per_token_and_length=12.0 * layers * heads * head_dim)


def _share_of_experts(config: Any) -> float:
    """The share of the experts that a token is sent to."""
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    total = next((value for name in names if (value := getattr(config, name, None))), None)
    used = getattr(config, "num_experts_per_tok", None)
    return used / total if isinstance(total, int) and isinstance(used, int) else 1.0


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """The operations per second that a device promises; None if it is not known, as of a CPU."""
    if device.type != "cuda" or dtype != torch.bfloat16:
        return None
    name = torch.cuda.get_device_name(device)
    # "NVIDIA H100 PCIe" begins with "NVIDIA H100" as well, and "NVIDIA L40" is no "NVIDIA L4".
    words = re.split("[ -]", name)
    fits = [each for each in PEAKS if words[: len(each.split())] == each.split()]
    return PEAKS[max(fits, key=len)] if fits else None
