"""A model directory -> the model with its loss on this rank's device, sharded over the ranks."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import AutoConfig, AutoModelForCausalLM

from train.loss import LabelledLoss
from train.ranks import device, is_distributed, world_size


def check_examples_fit(model_dir: Path, *, longest: int, largest_id: int) -> None:
    """Refuses examples that the model cannot read.

    Raises:
        ValueError: the longest has more tokens than the model has positions, or an id is outside
            its vocabulary.
    """
    config = AutoConfig.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
    if longest > config.max_position_embeddings:
        raise ValueError(
            f"the longest example has {longest} tokens and {model_dir} has "
            f"{config.max_position_embeddings} positions (max_position_embeddings); remove longer "
            f"examples from the dataset, or train another model"
        )
    if largest_id >= config.vocab_size:
        raise ValueError(
            f"the dataset holds token id {largest_id} and {model_dir} has {config.vocab_size} "
            f"(vocab_size): its embeddings do not fit its tokenizer; resize them first"
        )


def load_sharded(
    model_dir: Path, *, dtype: torch.dtype, gradient_checkpointing: bool = False
) -> LabelledLoss:
    """The model of a directory with its loss.

    The weights are float32, as the optimizer needs them; `dtype` is that of the computation.

    Raises:
        ValueError: the model's head is more than a matrix.
    """
    model = AutoModelForCausalLM.from_pretrained(
        model_dir,
        dtype=torch.float32,
        attn_implementation="sdpa",
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,  # the other format is a pickle
    )
    loss = LabelledLoss(model, dtype=dtype)
    loss.check_head()
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if not is_distributed():
        loss.to(device())
        return loss
    # Each layer is moved to its device as it is sharded, so a device never holds the whole model.
    mesh = init_device_mesh(device().type, (world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for layer in model.base_model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(loss, mesh=mesh, mp_policy=policy)
    return loss
