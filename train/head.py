"""What a model makes of its last hidden states: a matrix product, or more that is its own.

Shapes: B rows, T tokens per row, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from train.loss import LabelledLoss
from train.probe_examples import LOSS_TOLERANCE, one_row, probe_examples
from train.router_loss import Router

LARGE_LOGIT = 100.0
"""Gemma 2 caps logits at 30."""


def head_is_matrix(model: Any) -> bool:
    """Whether the logits are the head times the decoder's hidden states, and no more.

    Raises:
        ValueError: a logit is no number, or the model gives none for token ids.
    """
    input_ids_BT = torch.from_numpy(probe_examples(model)[0].input_ids).unsqueeze(0)
    input_ids_BT = input_ids_BT.to(next(model.parameters()).device)
    loss = LabelledLoss(model)
    with torch.no_grad():
        logits_BTV = model(input_ids=input_ids_BT, use_cache=False).logits
        if not logits_BTV.isfinite().all():
            raise ValueError(
                f"{type(model).__name__}'s logits are not finite before any training: its weights "
                f"hold NaN or infinity; copy the model again"
            )
        try:
            hidden_BTH = loss.decoder(input_ids=input_ids_BT, use_cache=False).last_hidden_state
            # A cap shows in large logits only, and training may make small ones large.
            factor = LARGE_LOGIT / logits_BTV.abs().max().clamp(min=1e-6)
            with _scaled_states(loss.head, factor):
                theirs_BTV = model(input_ids=input_ids_BT, use_cache=False).logits
            ours_BTV = loss.head(factor * hidden_BTH)
        except Exception:  # no decoder that can be called, or none whose states the head takes
            return False
    is_close = ours_BTV.shape == theirs_BTV.shape and torch.allclose(
        ours_BTV, theirs_BTV, rtol=1e-3, atol=1e-3
    )
    return bool(is_close)


@contextmanager
def _scaled_states(head: nn.Module, factor: torch.Tensor) -> Iterator[None]:
    """Lets a head read its hidden states times a factor."""

    def scale(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return factor * inputs[0], *inputs[1:]

    handle = head.register_forward_pre_hook(scale)
    try:
        yield
    finally:
        handle.remove()


def check_loss(loss: LabelledLoss) -> None:
    """Checks that our loss of an example is the one of the model's own logits.

    Raises:
        ValueError: it is not, so that training would train something else.
    """
    model: Any = loss.model
    row = one_row(probe_examples(model)[:1])
    device = next(loss.parameters()).device
    with torch.no_grad():
        logits_TV = model(input_ids=row.input_ids_BT.to(device), use_cache=False).logits[0]
        labels_T = row.labels_BT[0, 1:].to(device)
        theirs = F.cross_entropy(logits_TV[:-1].float(), labels_T, reduction="sum").item()
        tensors = (row.input_ids_BT, row.labels_BT, row.position_ids_BT)
        ours = loss(*(tensor.to(device) for tensor in tensors)).item()
    if abs(ours - theirs) > LOSS_TOLERANCE * (1.0 + abs(theirs)):
        raise ValueError(
            f"{type(model).__name__} gives an example a loss of {theirs:.6g}, and this trainer "
            f"finds {ours:.6g}; choose a model of another architecture"
        )


def balances(model: Any, router: Router) -> bool:
    """Whether a model tells what its routers chose, so that a loss can balance them.

    A model without experts may have the coefficient of one that has some.
    """
    row = one_row(probe_examples(model)[:1])
    device = next(model.parameters()).device
    loss = LabelledLoss(model, head_is_matrix=False, router=router)
    loss.train()
    try:
        with torch.no_grad():
            tensors = (row.input_ids_BT, row.labels_BT, row.position_ids_BT)
            found = loss(*(tensor.to(device) for tensor in tensors))
    except Exception:  # the model's own code, or no logits of a router
        return False
    finally:
        model.eval()
    return bool(found.isfinite())
