"""A model directory -> the model with its loss on this rank's device, sharded over the ranks.

Any causal language model of transformers that reads token ids can be loaded; `isolation` says in
which rows it can be trained.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from train.architecture import attention_of, layers_of, text_of, without_noise
from train.isolation import kind_of
from train.lora import Lora, add_lora, first_values, plain_name
from train.loss import LabelledLoss
from train.model_directory import (
    check_no_adapter,
    check_weight_files,
    described_model,
    model_config,
    told,
    whole_model,
)
from train.probes import Found, LoadedModel, found_in, probed, small_copy
from train.ranks import device, is_distributed, on_first_rank, ranks_of_a_copy, world_size
from train.reading import read_to_share
from train.recomputing import Recomputing, recompute
from train.router_loss import router_of
from train.weights import buffers_of, check_ties, give_buffers, give_memory, share, strays


def load_sharded(
    model_dir: Path,
    *,
    dtype: torch.dtype,
    gradient_checkpointing: Recomputing = False,
    sharding: Literal["full", "hybrid"] = "full",
    longest: int = 0,
    row_tokens: int | None = None,
    lora: Lora | None = None,
) -> LoadedModel:
    """The model of a directory with its loss, probed before it is sharded.

    The weights that are trained are float32, as the optimizer needs them; `dtype` is that of the
    computation. Of several ranks the first one reads and probes, and all get their share of what it
    has read.

    Args:
        model_dir: the model.
        dtype: number format of the computation.
        gradient_checkpointing: what of the layers is computed again in the backward pass.
        sharding: whether all ranks share one copy of the weights, or those of each node.
        longest: tokens of the longest example, which rotary scaling may depend on.
        row_tokens: tokens of a packed row; None if they may be any.
        lora: what is trained in place of the weights; None trains them.

    Raises:
        ValueError: the directory holds no whole model in safetensors, or one that cannot be trained
            on token ids.
    """
    check_no_adapter(model_dir)
    with told(model_dir):
        check_weight_files(model_dir)
        config = model_config(model_dir)
        without_noise(config)
        attention = attention_of(config)
        shell = described_model(config, attention) if is_distributed() else None
    if shell is not None and not strays(shell):
        read: list[dict[str, torch.Tensor]] = []

        def read_alone() -> tuple[Found, dict[str, torch.Tensor]]:
            # torchrun gives each rank one thread, and the others of this node wait.
            num_threads = torch.get_num_threads()
            torch.set_num_threads(len(os.sched_getaffinity(0)))
            try:
                reading = read_to_share(
                    model_dir, config, attention, shell, longest=longest, row_tokens=row_tokens
                )
            finally:
                torch.set_num_threads(num_threads)
            read.append(reading.weights)
            return reading.found, reading.buffers

        found, buffers = on_first_rank(read_alone)
        loss = _with_loss(shell, found, dtype, gradient_checkpointing, lora)
        _shard(loss, dtype, buffers, _mesh(sharding))
        weights = read.pop() if read else None
        if weights is not None and lora is not None:
            weights = _with_first_values(weights, shell, lora)
        share(weights, loss.model)
        return LoadedModel(loss=loss, isolation=found.isolation)
    model = whole_model(model_dir, config, attention, torch.float32)
    if not is_distributed():
        model.to(device())  # where a probe is fast
    small = small_copy(model, config, attention, row_tokens)
    found = found_in(probed(model, longest=longest), small)
    loss = _with_loss(model, found, dtype, gradient_checkpointing, lora)
    if is_distributed():
        _shard(loss, dtype, buffers_of(model), _mesh(sharding))
    return LoadedModel(loss=loss, isolation=found.isolation)


def _with_first_values(
    read: Mapping[str, torch.Tensor], model: Any, lora: Lora
) -> dict[str, torch.Tensor]:
    """What rank 0 has read, under the names of a model with LoRA, and the first values of that."""
    return dict(first_values(model, lora.seed)) | {
        name: read[plain_name(name)]
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad
    }


def _with_loss(
    model: Any,
    found: Found,
    dtype: torch.dtype,
    gradient_checkpointing: Recomputing,
    lora: Lora | None,
) -> LabelledLoss:
    """A model with its loss, as it is trained; what no example reaches is frozen."""
    freeze_unreached(model, found.unreached)
    router = router_of(model, model.config.get_text_config()) if found.has_router else None
    loss = LabelledLoss(model, dtype=dtype, head_is_matrix=found.head_is_matrix, router=router)
    recompute(model, gradient_checkpointing)
    if lora is not None:
        add_lora(model, lora, kinds=found.products, dtype=dtype)
    return loss


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
    check_ties([*layers_of(model), loss], type(model).__name__)
    if any(parameter.is_meta for parameter in model.parameters()):
        give_buffers(model, buffers)
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    tied: dict[int, torch.nn.Parameter] = {}
    for part in (*layers_of(model), loss):
        give_memory(part, tied)
        fully_shard(part, mesh=mesh, mp_policy=policy)


def freeze_unreached(model: Any, unreached: Collection[str]) -> None:
    """Freezes weights without a gradient: their optimizer has no state that could be resumed.

    Args:
        model: gets frozen what belongs to no part of its text, such as what reads pictures.
        unreached: kinds of other weights that are frozen; see `isolation.unreached_weights`.
    """
    parts = (text_of(model), model.get_input_embeddings(), model.get_output_embeddings())
    of_text = {id(parameter) for part in parts for parameter in part.parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) not in of_text or kind_of(name) in unreached:
            parameter.requires_grad_(False)
