"""Layers computed again: the same gradients, more operations, less memory."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from train.architecture import attention_of, without_noise
from train.batches import build_batch
from train.loss import LabelledLoss
from train.probe_examples import probe_examples
from train.recomputing import Recomputing, recompute
from train.tiny_copy import tiny_copy

WAYS: tuple[Recomputing, ...] = (False, "selective", True)


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of living results of operations inside."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = operator(*args, **(kwargs or {}))
        for each in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(each, torch.Tensor):
                self._count(each.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place in self._known:
            return
        self._known.add(place)
        self.now += size
        self.peak = max(self.peak, self.now)

        def ended() -> None:
            self._known.discard(place)
            self.now -= size

        weakref.finalize(storage, ended)


def model_of(kind: str, num_layers: int = 2) -> Any:
    """A tiny model of a kind, without dropout, in training."""
    config = CONFIG_MAPPING[kind]()
    without_noise(config)
    return tiny_copy(config, num_layers, attention_of(config)).train()


def measured(kind: str, way: Recomputing) -> tuple[float, torch.Tensor, int]:
    """Loss, gradients in one row, and operations of a forward and backward pass."""
    model = model_of(kind)
    recompute(model, way)
    loss = LabelledLoss(model, head_is_matrix=kind != "gemma2")
    [row] = build_batch([probe_examples(model)], 128, layout="packed").passes
    with FlopCounterMode(display=False) as flops:
        summed = loss(row.input_ids_BT, row.labels_BT, row.position_ids_BT)
        summed.backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return summed.item(), torch.cat(gradients), flops.get_total_flops()


@pytest.mark.parametrize("kind", ["llama", "gemma2", "qwen2", "mixtral", "gpt2"])
def test_what_is_computed_again_changes_no_result(kind: str) -> None:
    plain, selective, whole = (measured(kind, way) for way in WAYS)
    for found in (selective, whole):
        assert found[0] == pytest.approx(plain[0], rel=1e-6)
        assert (found[1] - plain[1]).norm() <= 1e-6 * plain[1].norm()


def test_selective_recomputes_six_tenths_of_what_whole_does() -> None:
    plain, selective, whole = (measured("llama", way)[2] for way in WAYS)
    assert plain < selective < whole
    # Two of the seven products of a layer, of six: the last is needed by nothing in the layer.
    assert selective - plain < 0.6 * (whole - plain)


def test_selective_keeps_half_of_what_no_recomputing_does() -> None:
    peaks = []
    for way in WAYS:
        model = model_of("llama", 12)
        recompute(model, way)
        ids = torch.arange(1024).view(4, 256) % 64
        # The decoder alone: a tiny model's logits are larger than its layers.
        with PeakMemory() as memory:
            model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state.sum().backward()
        peaks.append(memory.peak)
    plain, selective, whole = peaks
    assert whole < 0.3 * plain and selective < 0.5 * plain, peaks
