"""A causal language model's loss on the labelled tokens of packed rows.

Shapes: B rows, T tokens per row, S = T - 1, H hidden size, N labelled tokens, C of them at a time,
V vocabulary, E experts.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from train.batches import PADDING_INDEX
from train.router_loss import Router, router_loss

LOGIT_BYTES = 1 << 28
"""Bytes of the logits that exist at a time, in float32; with their logarithms and gradients, three
times as many."""
LEAST_LABELS = 256
"""Tokens of a chunk at least: the head's matrix is read once for each chunk."""


def labels_per_chunk(vocabulary: int) -> int:
    """The tokens whose logits exist at a time: 512 with a vocabulary of 128k, 2,048 with 32k."""
    return max(LEAST_LABELS, LOGIT_BYTES // (4 * max(1, vocabulary)))


class LabelledLoss(nn.Module):  # type: ignore[misc]
    """A model with its loss: the tensors of a batch -> summed cross entropy of the labels.

    Logits are the largest tensor of all, so they are computed only at labelled positions, and in
    chunks where the head is a matrix and no more. It is a module so that FSDP's hooks on it see
    decoder and head as one forward call.
    """

    def __init__(
        self,
        model: nn.Module,
        dtype: torch.dtype = torch.float32,
        *,
        head_is_matrix: bool = True,
        router: Router | None = None,
    ) -> None:
        """Args:
        model: a causal language model of transformers.
        dtype: number format of the computation.
        head_is_matrix: whether logits are the head times the hidden states; see `check_head`.
        router: what balances the model's experts; None adds no loss for it.
        """
        super().__init__()
        self.model = model
        self.dtype = dtype
        self.head_is_matrix = head_is_matrix
        self.router = router

    def forward(
        self, input_ids_BT: torch.Tensor, labels_BT: torch.Tensor, position_ids_BT: torch.Tensor
    ) -> torch.Tensor:
        """The summed cross entropy, a float32 scalar, in training with the router's loss if any."""
        device = input_ids_BT.device.type
        # Token t is predicted at t - 1; an example's first token never has a label.
        labels_BS = labels_BT[:, 1:]
        labelled_BS = labels_BS >= 0
        labels_N = labels_BS[labelled_BS]
        with torch.autocast(device, self.dtype, enabled=self.dtype != torch.float32):
            if self.head_is_matrix:
                outputs = self._outputs(self.decoder, input_ids_BT, position_ids_BT)
                hidden_NH = outputs.last_hidden_state[:, :-1][labelled_BS]
                summed = self._summed(hidden_NH, labels_N)
            else:
                with _head_reads(self.head, labelled_BS):
                    outputs = self._outputs(self.model, input_ids_BT, position_ids_BT)
                summed = F.cross_entropy(outputs.logits[0].float(), labels_N, reduction="sum")
            if self.router is None or not self.training:
                return summed
            is_token_BT = labels_BT != PADDING_INDEX
            balance_B = router_loss(self.router, outputs.router_logits, is_token_BT)
            # The sum becomes a mean over labels, so a row's balance weighs as much as its labels.
            return summed + (labelled_BS.sum(dim=1) * balance_B).sum()

    @property
    def decoder(self) -> Any:
        """The layers that read token ids, of a model with several parts those of its text."""
        return self.model.get_decoder()

    @property
    def head(self) -> Any:
        """The module that makes logits of hidden states."""
        return self.model.get_output_embeddings()

    def _outputs(
        self, module: Any, input_ids_BT: torch.Tensor, position_ids_BT: torch.Tensor
    ) -> Any:
        # With a cache, transformers ignores restarting positions, and examples would attend to each
        # other.
        asked: dict[str, Any] = {"input_ids": input_ids_BT, "use_cache": False}
        if _takes(module, "position_ids"):
            asked["position_ids"] = position_ids_BT
        if self.router is not None:
            asked["output_router_logits"] = True
        return module(**asked)

    def _summed(self, hidden_NH: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
        size = labels_per_chunk(int(self.model.config.get_text_config().vocab_size))
        if len(labels_N) <= size:
            return _cross_entropy(self.head, hidden_NH, labels_N)
        chunks = zip(hidden_NH.split(size), labels_N.split(size), strict=True)
        sums = [
            checkpoint(_cross_entropy, self.head, hidden_CH, labels_C, use_reentrant=False)
            for hidden_CH, labels_C in chunks
        ]
        return torch.stack(sums).sum()


def _takes(module: Any, name: str) -> bool:
    """Whether a module's forward has a parameter of this name, or takes any."""
    parameters = inspect.signature(module.forward).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _cross_entropy(
    head: nn.Module, hidden_NH: torch.Tensor, labels_N: torch.Tensor
) -> torch.Tensor:
    logits_NV = head(hidden_NH).float()
    return F.cross_entropy(logits_NV, labels_N, reduction="sum")


@contextmanager
def _head_reads(head: nn.Module, labelled_BS: torch.Tensor) -> Iterator[None]:
    """Lets a model's head read labelled positions alone, as one row of them.

    What the model does to its logits afterwards, such as scaling or capping, stays its own.
    """

    def select(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden_BTH, *others = inputs
        return hidden_BTH[:, :-1][labelled_BS].unsqueeze(0), *others

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()
