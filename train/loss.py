"""A causal language model's loss on the labelled tokens of packed rows.

Shapes: B rows, T tokens per row, S = T - 1, H hidden size, N labelled tokens, C of them at a time,
V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from train.batches import IGNORE_INDEX

LABELS_PER_CHUNK = 8192
"""Tokens whose logits exist at a time: 8192 x 128k x 4 bytes = 4 GiB."""


class LabelledLoss(nn.Module):  # type: ignore[misc]
    """A model with its loss: the tensors of a batch -> summed cross entropy of the labels.

    Logits are the largest tensor of all, so they are computed only at labelled positions, and in
    chunks. It is a module so that FSDP's hooks on it see decoder and head as one forward call.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype

    def forward(
        self, input_ids_BT: torch.Tensor, labels_BT: torch.Tensor, position_ids_BT: torch.Tensor
    ) -> torch.Tensor:
        """The summed cross entropy, a float32 scalar."""
        model: Any = self.model
        device = input_ids_BT.device.type
        with torch.autocast(device, self.dtype, enabled=self.dtype != torch.float32):
            # With a cache, transformers ignores restarting positions, and examples would attend to
            # each other.
            hidden_BTH = model.base_model(
                input_ids=input_ids_BT, position_ids=position_ids_BT, use_cache=False
            ).last_hidden_state
            # Token t is predicted at t - 1; an example's first token never has a label.
            labels_BS = labels_BT[:, 1:]
            labelled_BS = labels_BS != IGNORE_INDEX
            hidden_NH, labels_N = hidden_BTH[:, :-1][labelled_BS], labels_BS[labelled_BS]
            if len(labels_N) <= LABELS_PER_CHUNK:
                return _cross_entropy(model.lm_head, hidden_NH, labels_N)
            chunks = zip(
                hidden_NH.split(LABELS_PER_CHUNK), labels_N.split(LABELS_PER_CHUNK), strict=True
            )
            sums = [
                checkpoint(_cross_entropy, model.lm_head, hidden_CH, labels_C, use_reentrant=False)
                for hidden_CH, labels_C in chunks
            ]
            return torch.stack(sums).sum()

    def check_parts(self) -> None:
        """Refuses a model that is not made of layers and a head, as `forward` takes it.

        Raises:
            ValueError: it lacks one of the two.
        """
        model: Any = self.model
        if model.base_model is model or not isinstance(getattr(model, "lm_head", None), nn.Module):
            raise ValueError(
                f"{type(model).__name__} has no lm_head beside its layers, which this trainer "
                f"needs; choose a model of another architecture"
            )

    def check_head(self) -> None:
        """Refuses a model whose logits are not what `forward` computes: head times hidden states.

        Raises:
            ValueError: a logit is no number, or the model scales or caps its logits, so `forward`
                would train another model.
        """
        model: Any = self.model
        input_ids_BT = torch.arange(min(8, model.config.vocab_size)).unsqueeze(0)
        with torch.no_grad():
            hidden_BTH = model.base_model(input_ids=input_ids_BT, use_cache=False).last_hidden_state
            ours_BTV = model.lm_head(hidden_BTH)
            theirs_BTV = model(input_ids=input_ids_BT, use_cache=False).logits
        if not theirs_BTV.isfinite().all():
            raise ValueError(
                f"{type(model).__name__}'s logits are not finite before any training: its weights "
                f"hold NaN or infinity; copy the model again"
            )
        if not torch.allclose(ours_BTV, theirs_BTV, rtol=1e-3, atol=1e-4):
            raise ValueError(
                f"{type(model).__name__} changes its logits after lm_head (scaling or capping), "
                f"which this trainer does not do; choose a model of another architecture"
            )


def _cross_entropy(
    head: nn.Module, hidden_NH: torch.Tensor, labels_N: torch.Tensor
) -> torch.Tensor:
    logits_NV = head(hidden_NH).float()
    return F.cross_entropy(logits_NV, labels_N, reduction="sum")
