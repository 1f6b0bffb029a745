"""LoRA: two small matrices beside each linear layer, trained in place of its weights.

Their product, scaled, is added to the layer's result, and to its weights when training ends, so
that the student is a model as any other (E. Hu and others, arXiv 2106.09685). The layers are
peft's. The weights stay as they were read, rounded to the format of the computation: they have no
gradient and no optimizer state, and states to resume from do not hold them.

Shapes: I inputs of a layer, O outputs, R rank.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.pytorch_utils import Conv1D

from train.architecture import text_of
from train.isolation import kind_of
from train.plan import TrainingPlan
from train.probe_examples import one_row, probe_examples

_ADAPTER = "default"
"""The name that peft gives to the only pair of matrices of a layer."""
_BASE = ".base_layer."
"""What peft puts into the names of a layer's own weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lora:
    """The settings of LoRA."""

    rank: int
    alpha: int
    """The product is scaled by alpha / rank."""
    seed: int
    """Seed of the first values of one of the two matrices; the other begins at 0."""


def lora_of(plan: TrainingPlan) -> Lora | None:
    """The Lora of a plan; None where all weights are trained."""
    if plan.lora_rank is None:
        return None
    assert plan.lora_alpha is not None
    return Lora(rank=plan.lora_rank, alpha=plan.lora_alpha, seed=plan.seed)


def adaptable(model: Any) -> dict[str, nn.Module]:
    """The linear layers of a model's text, by name, beside which matrices can be trained.

    The head is not among them, and neither are experts that lie in one tensor, nor layers that
    share a weight: it would get the products of all of them, and each has its own. Of a recurrent
    layer only what leads into it is: fused kernels take its other weights without calling a layer.
    """
    names = Counter(id(each) for _, each in model.named_parameters(remove_duplicate=False))
    of_text = {id(module) for module in text_of(model).modules()}
    head = model.get_output_embeddings()
    found = {}
    for parent_name, parent in model.named_modules():
        is_recurrent = hasattr(parent, "conv1d")
        for key, layer in parent.named_children():
            if not isinstance(layer, nn.Linear | Conv1D) or layer is head:
                continue
            if id(layer) not in of_text or names[id(layer.weight)] > 1:
                continue
            if not is_recurrent or key.startswith("in_proj"):
                found[f"{parent_name}.{key}" if parent_name else key] = layer
    return found


def num_lora_parameters(model: Any, rank: int) -> int:
    """The elements of the matrices of this rank beside all layers of a model that can have them."""
    return sum(rank * sum(layer.weight.shape) for layer in adaptable(model).values())


def product_kinds(model: Any) -> frozenset[str]:
    """The kinds of a model's adaptable layers, as `kind_of` says, that make products and no more.

    Code that reads a layer's weights and does not call it would leave the matrices out, and they
    could not be added to weights that a layer rounds.
    """
    row = one_row(probe_examples(model)[:1])
    device = next(model.parameters()).device
    found: set[str] = set()

    def hook(name: str) -> Any:
        def note(layer: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            weight = layer.weight.T if isinstance(layer, Conv1D) else layer.weight
            with suppress(Exception):  # called otherwise, or of another shape: no plain product
                product = F.linear(inputs[0], weight, layer.bias)
                is_same = output.shape == product.shape
                if is_same and torch.allclose(output, product, rtol=1e-4, atol=1e-5):
                    found.add(kind_of(name))

        return note

    layers = adaptable(model).items()
    handles = [layer.register_forward_hook(hook(name)) for name, layer in layers]
    try:
        with torch.no_grad():
            model(input_ids=row.input_ids_BT.to(device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return frozenset(found)


def add_lora(model: Any, lora: Lora, *, kinds: Collection[str], dtype: torch.dtype) -> None:
    """Puts matrices beside the layers of a model in place; nothing else of it is trained then.

    Those of a model without values have none either; see `first_values`.

    Args:
        model: the model.
        lora: the settings.
        kinds: of the layers that get them; see `product_kinds`.
        dtype: number format that the other weights get.

    Raises:
        ValueError: the model has no such layer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    layers = {
        name: layer
        for name, layer in adaptable(model).items()
        if kind_of(name) in kinds and layer.weight.requires_grad
    }
    if not layers:
        raise ValueError(no_layer(type(model).__name__))
    is_shell = any(parameter.is_meta for parameter in model.parameters())
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=[f"model.{name}" for name in layers],
        fan_in_fan_out=any(isinstance(each, Conv1D) for each in layers.values()),
    )
    # Of a model of transformers peft takes the names for those of experts as well.
    inject_adapter_in_model(config, nn.ModuleDict({"model": model}), low_cpu_mem_usage=is_shell)
    for _, _, layer in _layers(model):
        for matrix in (layer.lora_A, layer.lora_B):
            matrix.requires_grad_(True)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.requires_grad and parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)
        if not is_shell:
            values = dict(model.named_parameters())
            for name, first in first_values(model, lora.seed):
                values[name].copy_(first)


def no_layer(name: str) -> str:
    """What is wrong with a model of this class that LoRA cannot train."""
    return f"{name} has no linear layer beside which LoRA could train; leave training.lora_rank out"


def first_values(model: Any, seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and first values of each matrix: those of `lora_A`, (R, I), are drawn as those of a
    linear layer, and those of `lora_B`, (O, R), are 0, so that training begins with the model as
    it is.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        first = torch.zeros(parameter.shape)
        if ".lora_A." in name:
            bound = 1.0 / math.sqrt(parameter.shape[1])
            first.uniform_(-bound, bound, generator=generator)
        yield name, first


def plain_name(name: str) -> str:
    """The name that a weight has in the model without LoRA."""
    return name.replace(_BASE, ".")


def has_lora(model: nn.Module) -> bool:
    """Whether matrices are trained in place of the weights."""
    return next(_layers(model), None) is not None


def merge_lora(model: nn.Module) -> None:
    """Adds what was trained to the weights and takes it off; the model is as any other then.

    Every rank calls it. The sum is made in float32.
    """
    for parent, key, layer in list(_layers(model)):
        own = layer.get_base_layer()
        lead, follow = (_whole(each[_ADAPTER].weight) for each in (layer.lora_A, layer.lora_B))
        product = (follow @ lead) * layer.scaling[_ADAPTER]
        _add(own.weight, product.T if isinstance(own, Conv1D) else product)
        setattr(parent, key, own)


def _layers(model: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """Each layer that has matrices beside it, its parent, and its name there."""
    for parent in model.modules():
        for key, child in parent.named_children():
            if hasattr(child, "lora_A") and hasattr(child, "base_layer"):
                yield parent, key, child


def _whole(parameter: torch.Tensor) -> torch.Tensor:
    value = parameter.detach()
    return value.full_tensor() if isinstance(value, DTensor) else value


def _add(weight: torch.Tensor, change: torch.Tensor) -> None:
    """Adds a change, which is whole on every rank, to a weight in place."""
    own = weight.detach()
    if isinstance(own, DTensor):
        change = distribute_tensor(
            change.contiguous(), own.device_mesh, own.placements, src_data_rank=None
        ).to_local()
        own = own.to_local()
    own.copy_(own.float() + change)
