"""The size of a model, as far as its speed depends on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from orca2_gen.preflight.headers import Tensor
from orca2_gen.preflight.model_config import model_body
from orca2_gen.preflight.weights import read_weights

_EXPERT = re.compile(r"\.experts[.\[]|\.experts$")
_NUM_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_PACKED = {"I32": 8, "U8": 2}
"""Weights of four bits in an integer: GPTQ and AWQ pack eight, bitsandbytes and MXFP4 two."""


def active_parameters(directory: Path) -> float | None:
    """The parameters that a token is multiplied with; None if the directory cannot be read.

    Of experts those count that a token is sent to.
    """
    with suppress(OSError, ValueError):
        tensors = read_weights("model", directory).tensors
        body = model_body("model", directory)
        part = body.get("text_config")
        share = _share_of_experts(part if isinstance(part, dict) else body)
        return sum(
            _num_values(tensor) * (share if _EXPERT.search(name) else 1.0)
            for name, tensor in tensors.items()
        )
    return None


def weight_bytes(directory: Path) -> float:
    """The bytes of a model's weights; 0 if the directory cannot be read."""
    with suppress(OSError, ValueError):
        tensors = read_weights("model", directory).tensors
        return float(sum(tensor.num_bytes for tensor in tensors.values()))
    return 0.0


def _num_values(tensor: Tensor) -> int:
    return tensor.num_values * _PACKED.get(tensor.dtype, 1)


def _share_of_experts(config: Mapping[str, Any]) -> float:
    total = next((config[name] for name in _NUM_EXPERTS if config.get(name)), None)
    used = config.get("num_experts_per_tok")
    return used / total if isinstance(total, int) and isinstance(used, int) else 1.0
