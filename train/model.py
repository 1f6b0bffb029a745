"""A model directory -> the model with its loss on this rank's device, sharded over the ranks.

Any causal language model of transformers that reads token ids can be loaded; `isolation` says in
which rows it can be trained.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from train.architecture import (
    attention_of,
    layers_of,
    rotary_isolation,
    without_noise,
)
from train.head import balances, check_loss, head_is_matrix
from train.isolation import (
    LAYOUTS,
    Isolation,
    kind_of,
    probed_isolation,
    settled,
    unreached_weights,
)
from train.loss import LabelledLoss
from train.model_directory import (
    check_weight_files,
    described_model,
    model_config,
    told,
    whole_model,
)
from train.ranks import (
    device,
    is_distributed,
    on_first_rank,
    rank,
    ranks_of_a_copy,
    world_size,
)
from train.router_loss import router_of
from train.tiny_copy import layers_of_every_kind, tiny_copy
from train.weights import buffers_of, check_ties, give_buffers, give_memory, share, strays


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    """A model that can be trained, and the rows in which it can be."""

    loss: LabelledLoss
    isolation: Isolation


def load_sharded(
    model_dir: Path,
    *,
    dtype: torch.dtype,
    gradient_checkpointing: bool = False,
    sharding: Literal["full", "hybrid"] = "full",
    longest: int = 0,
    row_tokens: int | None = None,
) -> LoadedModel:
    """The model of a directory with its loss, probed before it is sharded.

    The weights are float32, as the optimizer needs them; `dtype` is that of the computation. Of
    several ranks the first one reads and probes, and the others get their share of it.

    Args:
        model_dir: the model.
        dtype: number format of the computation.
        gradient_checkpointing: whether layers are computed again in the backward pass.
        sharding: whether all ranks share one copy of the weights, or those of each node.
        longest: tokens of the longest example, which rotary scaling may depend on.
        row_tokens: tokens of a packed row; None if they may be any.

    Raises:
        ValueError: the directory holds no whole model in safetensors, or one that cannot be trained
            on token ids.
    """
    with told(model_dir):
        check_weight_files(model_dir)
        config = model_config(model_dir)
        without_noise(config)
        attention = attention_of(config)
        shell = described_model(config, attention) if is_distributed() else None
    read: list[Any] = []

    def probe() -> tuple[_Found, dict[str, torch.Tensor]]:
        read.append(model := whole_model(model_dir, config, attention))
        if not is_distributed():
            model.to(device())  # where a probe is fast
        return _found(model, config, attention, longest, row_tokens), buffers_of(model)

    def probe_alone() -> tuple[_Found, dict[str, torch.Tensor]]:
        # torchrun gives each rank one thread, and the others of this node wait.
        num_threads = torch.get_num_threads()
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        try:
            return probe()
        finally:
            torch.set_num_threads(num_threads)

    is_shared = shell is not None and not strays(shell)
    found, buffers = on_first_rank(probe_alone) if is_shared else probe()
    model: Any = read.pop() if read else shell
    freeze_unreached(model, found.unreached)
    router = router_of(model, model.config.get_text_config()) if found.has_router else None
    loss = LabelledLoss(model, dtype=dtype, head_is_matrix=found.head_is_matrix, router=router)
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if not is_distributed():
        loss.to(device())
    else:
        check_ties([*layers_of(model), loss], type(model).__name__)
        # Not the parameters themselves, which FSDP moves to the device, where they would all stay.
        is_reader = is_shared and rank() == 0
        named = loss.named_parameters()
        weights = {name: each.detach() for name, each in named} if is_reader else None
        _shard(loss, dtype, buffers, _mesh(sharding))
        if is_shared:
            share(weights, loss)
    return LoadedModel(loss=loss, isolation=found.isolation)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """What the rank that has read a model tells the others of it."""

    isolation: Isolation
    head_is_matrix: bool
    has_router: bool
    unreached: frozenset[str]
    """Kinds of weights that no example reaches."""


def _found(model: Any, config: Any, attention: str, longest: int, row_tokens: int | None) -> _Found:
    whole = probed(model, longest=longest)
    small = _small_copy(model, config, attention, row_tokens)
    found = [whole.isolation]
    if small is not None:
        found.append(settled(small.loss, small.isolation))
    strictest = max(found, key=lambda each: LAYOUTS.index(each.layout))
    return _Found(
        isolation=replace(strictest, may_part=all(each.may_part for each in found)),
        head_is_matrix=whole.loss.head_is_matrix,
        has_router=whole.loss.router is not None,
        unreached=frozenset(() if small is None else unreached_weights(small.loss)),
    )


def _mesh(sharding: Literal["full", "hybrid"]) -> DeviceMesh:
    """The ranks; of two dimensions where each node has a copy of the weights: nodes and ranks."""
    num = ranks_of_a_copy(sharding)
    if num == world_size():
        return init_device_mesh(device().type, (num,))
    shape = (world_size() // num, num)
    return init_device_mesh(device().type, shape, mesh_dim_names=("replicate", "shard"))


def _shard(
    loss: LabelledLoss, dtype: torch.dtype, buffers: Mapping[str, torch.Tensor], mesh: DeviceMesh
) -> None:
    """Shards a model over the ranks, layer by layer, each on its device from then on.

    So a device never holds the whole model. One without values gets buffers, and memory as it is
    sharded.
    """
    model = loss.model
    if any(parameter.is_meta for parameter in model.parameters()):
        give_buffers(model, buffers)
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    tied: dict[int, torch.nn.Parameter] = {}
    for part in (*layers_of(model), loss):
        give_memory(part, tied)
        fully_shard(part, mesh=mesh, mp_policy=policy)


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


def _small_copy(
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


def freeze_unreached(model: Any, unreached: Collection[str]) -> None:
    """Freezes weights without a gradient: their optimizer has no state that could be resumed.

    Args:
        model: gets frozen what belongs to no part of its text, such as what reads pictures.
        unreached: kinds of other weights that are frozen; see `isolation.unreached_weights`.
    """
    parts = (model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings())
    of_text = {id(parameter) for part in parts for parameter in part.parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) not in of_text or kind_of(name) in unreached:
            parameter.requires_grad_(False)
