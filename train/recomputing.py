"""What a layer keeps for its backward pass when it is computed again: nothing, or what is cheap.

`selective` keeps what attention gives, and of the matrix products those whose result is no wider
than what they sum over. Such a result saves the most operations for each byte: queries, keys,
values and what leads back to the model's width are kept, the wide rows between two products of the
feed-forward part are not (the method: V. Korthikanti and others, arXiv 2205.05198).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

Recomputing = bool | Literal["selective"]
"""Whether layers are computed again in the backward pass: not, but for what is cheap, or whole."""

_PRODUCTS = {torch.ops.aten.mm.default: 0, torch.ops.aten.addmm.default: 1}
"""Product of matrices -> place of the first of the two among its arguments."""
_ATTENTION = "_attention"
"""The end of the names of torch's fused attention, after which a name may go on with the device."""


def recompute(model: Any, recomputing: Recomputing) -> None:
    """Has a model of transformers compute its layers again in the backward pass."""
    if not recomputing:
        return
    asked: dict[str, Any] = {"use_reentrant": False}
    if recomputing == "selective":
        asked["context_fn"] = _contexts
    model.gradient_checkpointing_enable(asked)


def _contexts() -> Any:
    return create_selective_checkpoint_contexts(_policy)


def _policy(_: Any, operator: Any, *arguments: Any, **__: Any) -> CheckpointPolicy:
    if operator in _PRODUCTS:
        left, right = arguments[_PRODUCTS[operator] : _PRODUCTS[operator] + 2]
        is_kept = right.shape[-1] <= left.shape[-1]
    else:
        is_kept = f"{_ATTENTION}" in operator.name() and "backward" not in operator.name()
    return CheckpointPolicy.MUST_SAVE if is_kept else CheckpointPolicy.PREFER_RECOMPUTE
