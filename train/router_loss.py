"""The loss that keeps a mixture's router from sending all tokens to the same experts.

Equations 4 to 6 of Switch Transformers (arXiv 2101.03961), over all layers together, as
transformers has it in `load_balancing_loss_func` (`tests/train/test_router_loss.py` compares the
two). There it is one figure for a forward pass; here it is one for each of its rows, so that
neither the number of ranks nor that of rows in a pass changes a result.

Shapes: B rows, T tokens per row, E experts, K experts of a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Router:
    """What a mixture of experts says of its routers."""

    coefficient: float
    """Share of the router's loss in the whole; Mixtral has 0.001."""
    experts_per_token: int


def router_of(model: Any, config: Any) -> Router | None:
    """The Router of a model; None if it has none, or one that is balanced without a loss."""
    coefficient = getattr(model, "router_aux_loss_coef", None)
    if coefficient is None:
        coefficient = getattr(config, "router_aux_loss_coef", None)
    top_k = getattr(model, "num_experts_per_tok", None)
    if top_k is None:
        top_k = getattr(config, "num_experts_per_tok", None)
    if not coefficient or not isinstance(top_k, int):
        return None
    return Router(coefficient=float(coefficient), experts_per_token=top_k)


def router_loss(
    router: Router, router_logits: Sequence[torch.Tensor], is_token_BT: torch.Tensor
) -> torch.Tensor:
    """The loss of each row, B values: the coefficient where all experts get the same, else more.

    Args:
        router: what the model says of its routers.
        router_logits: of each layer that has a router, B * T x E in all.
        is_token_BT: False in the padding.
    """
    num_rows, num_tokens = is_token_BT.shape
    weights_BT1 = is_token_BT.unsqueeze(-1).float()
    chosen_BE, probability_BE = 0.0, 0.0
    for logits in router_logits:
        probability_BTE = logits.float().view(num_rows, num_tokens, -1).softmax(dim=-1)
        top_BTK = probability_BTE.topk(router.experts_per_token, dim=-1).indices
        counts_BTE = torch.zeros_like(probability_BTE).scatter_(-1, top_BTK, 1.0)
        chosen_BE = chosen_BE + (counts_BTE * weights_BT1).sum(dim=1)
        probability_BE = probability_BE + (probability_BTE * weights_BT1).sum(dim=1)
    assert isinstance(chosen_BE, torch.Tensor) and isinstance(probability_BE, torch.Tensor)
    total_B = len(router_logits) * weights_BT1.sum(dim=(1, 2))
    products_B = (chosen_BE * probability_BE).sum(dim=-1) / total_B.clamp(min=1).square()
    return router.coefficient * chosen_BE.shape[-1] * products_B
