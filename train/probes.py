"""What is asked of a model before it is trained: its loss, its head, the rows that it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from train.architecture import rotary_isolation
from train.head import balances, check_loss, head_is_matrix
from train.isolation import LAYOUTS, Isolation, probed_isolation, settled, unreached_weights
from train.lora import product_kinds
from train.loss import LabelledLoss
from train.router_loss import router_of
from train.tiny_copy import layers_of_every_kind, tiny_copy


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    """A model that can be trained, and the rows in which it can be."""

    loss: LabelledLoss
    isolation: Isolation


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What the rank that has read a model tells the others of it."""

    isolation: Isolation
    head_is_matrix: bool
    has_router: bool
    unreached: frozenset[str]
    """Kinds of weights that no example reaches."""
    products: frozenset[str]
    """Kinds of layers beside which LoRA can train."""


def found_in(asked: LoadedModel, small: LoadedModel | None) -> Found:
    """What the probes of a model, and of a tiny copy if there is one, say of it."""
    found = [asked.isolation]
    if small is not None:
        found.append(settled(small.loss, small.isolation))
    strictest = max(found, key=lambda each: LAYOUTS.index(each.layout))
    return Found(
        isolation=replace(strictest, may_part=all(each.may_part for each in found)),
        head_is_matrix=asked.loss.head_is_matrix,
        has_router=asked.loss.router is not None,
        unreached=frozenset(() if small is None else unreached_weights(small.loss)),
        products=product_kinds((small or asked).loss.model),
    )


def probed(model: Any, *, longest: int = 0) -> LoadedModel:
    """A model with its loss in float32, and what the probes say of it.

    Args:
        model: a causal language model of transformers, unsharded.
        longest: tokens of the longest example.

    Raises:
        ValueError: it cannot be trained on token ids; one line that names its class.
    """
    name = type(model).__name__
    model.eval()
    if not isinstance(model.get_output_embeddings(), torch.nn.Module):
        raise ValueError(f"{name} has no head that makes logits; choose another model")
    try:
        is_matrix = head_is_matrix(model)
        probe = LabelledLoss(model, head_is_matrix=is_matrix)
        check_loss(probe)
    except ValueError:
        raise
    except Exception as error:  # the model's own code
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{name} cannot be trained on token ids alone ({reason})") from error
    found = probed_isolation(probe)  # always: it refuses what reads ahead
    isolation = rotary_isolation(model, longest) or found
    router = router_of(model, model.config.get_text_config())
    if router is not None and not balances(model, router):
        router = None
    loss = LabelledLoss(model, head_is_matrix=is_matrix, router=router)
    return LoadedModel(loss=loss, isolation=isolation)


def small_copy(
    model: Any, config: Any, attention: str, row_tokens: int | None
) -> LoadedModel | None:
    """A tiny copy, in which windows and chunks are shorter than an example; None without one.

    A model that cuts a row into chunks of 8,192 tokens shows it in no row of a probe.
    """
    try:
        num_layers = layers_of_every_kind(model, config)
        return probed(tiny_copy(config, num_layers, attention, row_tokens=row_tokens))
    except Exception:  # the model's own code at other sizes; the model itself has been asked
        return None
