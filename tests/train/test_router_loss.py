"""Shapes: B rows, T tokens per row, E experts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from train.router_loss import Router, router_loss

NUM_EXPERTS = 5


def logits(num_layers: int, num_rows: int, num_tokens: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (num_rows * num_tokens, NUM_EXPERTS)
    return [torch.randn(shape, generator=generator) for _ in range(num_layers)]


@given(
    num_layers=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    top_k=st.integers(1, NUM_EXPERTS),
    seed=st.integers(0, 99),
)
def test_the_loss_of_a_row_is_the_one_of_transformers_for_its_tokens(
    num_layers: int, lengths: list[int], top_k: int, seed: int
) -> None:
    num_tokens = max(lengths)
    routed = logits(num_layers, len(lengths), num_tokens, seed)
    is_token_BT = torch.arange(num_tokens) < torch.tensor(lengths).unsqueeze(1)
    router = Router(coefficient=0.5, experts_per_token=top_k)
    ours_B = router_loss(router, routed, is_token_BT)
    for b, length in enumerate(lengths):
        rows = tuple(
            layer.view(len(lengths), num_tokens, NUM_EXPERTS)[b, :length] for layer in routed
        )
        theirs = load_balancing_loss_func(rows, NUM_EXPERTS, top_k)
        assert ours_B[b].item() == pytest.approx(0.5 * float(theirs), rel=1e-5)


def test_one_expert_for_all_tokens_costs_more_than_an_even_share() -> None:
    is_token_BT = torch.ones(1, NUM_EXPERTS, dtype=torch.bool)
    router = Router(coefficient=1.0, experts_per_token=1)
    even = router_loss(router, [50.0 * torch.eye(NUM_EXPERTS)], is_token_BT)
    all_in_one = torch.zeros(NUM_EXPERTS, NUM_EXPERTS)
    all_in_one[:, 0] = 50.0
    uneven = router_loss(router, [all_in_one], is_token_BT)
    assert even.item() == pytest.approx(1.0) and uneven.item() == pytest.approx(NUM_EXPERTS)
