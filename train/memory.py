"""The GPU memory that training takes, by calculation, so that it is known before it is used."""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from orca2_gen.preflight.model_config import said
from orca2_gen.preflight.weights import quantity
from train.architecture import attention_of
from train.lora import num_lora_parameters
from train.loss import labels_per_chunk
from train.model_directory import described_model, model_config, told
from train.muon import MOST_ELEMENTS
from train.plan import Execution, TrainingPlan
from train.ranks import device, of_all_ranks, rank, ranks_of_a_copy, world_size
from train.recomputing import Recomputing

_MOMENTS = {"adamw": 2, "muon": 1}
"""Numbers that an optimizer remembers of one parameter."""
_USABLE = 0.9
"""Share of a GPU's memory that is left beside CUDA's own and what its allocator cannot join."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryNeed:
    """Bytes that training takes."""

    spread: int
    """Of weights, gradients and optimizer state, which the processes share among them."""
    own: int
    """Of activations, logits and updates, which each process has whole."""
    alone: int = 0
    """Of the weights while a process that trains alone reads and probes them, in float32."""

    def in_each(self, num_ranks: int) -> int:
        """The bytes in each of `num_ranks` processes."""
        needed = math.ceil(self.spread / num_ranks) + self.own
        return max(needed, self.alone) if num_ranks == 1 else needed


def memory_need(
    config: Any,
    *,
    num_parameters: int,
    num_trained: int | None = None,
    largest_matrix: int = 0,
    optimizer: str,
    moments_dtype: str = "float32",
    seq_len: int,
    rows_per_forward: int,
    dtype: str,
    gradient_checkpointing: Recomputing,
) -> MemoryNeed:
    """What training a model takes.

    Activations are 34 bytes for each token, layer and unit of its width in 16 bits (V. Korthikanti
    and others, arXiv 2205.05198, equation 2 without the attention matrix, which fused attention
    does not keep); where layers are computed again, their inputs and one layer, and with
    "selective" six more results of the layer's width at most. Logits exist three
    times in float32: themselves, their logarithms and their gradients. Muon's updates exist about
    four times, after all of that is gone.

    Args:
        config: the text config of the model, as transformers reads it.
        num_parameters: of the whole model.
        num_trained: of the matrices of LoRA, beside parameters in `dtype` that stay as they are;
            None where all of the model's are trained.
        largest_matrix: elements of the largest parameter of its layers.
        optimizer: adamw or muon.
        moments_dtype: number format of what it remembers.
        seq_len: tokens of a row.
        rows_per_forward: rows of a forward pass.
        dtype: number format of the computation.
        gradient_checkpointing: what of the layers is computed again in the backward pass.
    """
    layers, width, vocabulary = (
        value if isinstance(value := said(config, key), int) else 0
        for key in ("num_hidden_layers", "hidden_size", "vocab_size")
    )
    tokens = rows_per_forward * seq_len
    of_layer = {False: 34, "selective": 14, True: 2}[gradient_checkpointing]
    kept = of_layer * layers + (34 if gradient_checkpointing else 0)
    activations = (2 if dtype == "float32" else 1) * kept * width * tokens
    logits = 3 * 4 * vocabulary * min(tokens, labels_per_chunk(vocabulary))
    updates = (
        4 * 4 * max(min(MOST_ELEMENTS, num_parameters), largest_matrix)
        if optimizer == "muon"
        else 0
    )
    # Weight and gradient are float32.
    each = 4 + 4 + _MOMENTS[optimizer] * (4 if moments_dtype == "float32" else 2)
    spread = num_parameters * each
    if num_trained is not None:  # the rest has no gradient and no optimizer state
        spread = num_trained * each + num_parameters * (4 if dtype == "float32" else 2)
    own = max(activations + logits, updates)
    return MemoryNeed(spread=spread, own=own, alone=4 * num_parameters)


def memory_line(plan: TrainingPlan, execution: Execution, model_dir: Path) -> str:
    """What people should know of a training that may not fit this rank's GPU; "" if it fits, or if
    there is no GPU.

    Raises:
        ValueError: it cannot fit, or the directory holds no model.
    """
    if (own := _gpu_bytes()) is None:
        return ""
    gpu = min(of_all_ranks(own))  # so that all ranks say and refuse the same
    with told(model_dir):
        config = model_config(model_dir)
        model = described_model(config, attention_of(config))
    need = memory_need(
        config.get_text_config(),
        **sizes_of(model, plan.lora_rank),
        optimizer=plan.optimizer,
        moments_dtype=plan.moments_dtype,
        seq_len=plan.seq_len,
        rows_per_forward=execution.rows_per_forward or math.ceil(plan.rows_per_step / world_size()),
        dtype=plan.dtype,
        gradient_checkpointing=execution.gradient_checkpointing,
    )
    return tightness(need, gpu, ranks_of_a_copy(execution.sharding))


def sizes_of(model: Any, lora_rank: int | None) -> dict[str, int]:
    """`memory_need`'s keywords about the parameters of a model of transformers, trained with LoRA
    of a rank or whole.
    """
    tables = {
        id(parameter)
        for module in (model.get_input_embeddings(), model.get_output_embeddings())
        if module is not None
        for parameter in module.parameters()
    }
    others = [each.numel() for each in model.parameters() if id(each) not in tables]
    sizes = {
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "largest_matrix": max(others, default=0),
    }
    if lora_rank is not None:
        sizes["num_trained"] = num_lora_parameters(model, lora_rank)
    return sizes


def _gpu_bytes() -> int | None:
    """The bytes of this rank's GPU; None without one."""
    if device().type != "cuda":
        return None
    return int(torch.cuda.get_device_properties(device()).total_memory)


def fewest_ranks(need: MemoryNeed, gpu: int) -> int | None:
    """The fewest processes, each with a GPU of so many bytes, in which training fits; None if in
    no number of them.
    """
    usable = int(_USABLE * gpu)
    left = usable - need.own
    if left <= 0:
        return None
    return max(1 if need.alone <= usable else 2, math.ceil(need.spread / left))


def tightness(need: MemoryNeed, gpu: int, num_ranks: int) -> str:
    """What people should know of a training that may not fit; "" if it fits.

    Raises:
        ValueError: the weights, gradients and optimizer state alone do not fit.
    """
    ranks = fewest_ranks(need, gpu)
    if ranks is not None and ranks <= num_ranks:
        return ""
    more = f"use {ranks} processes or more, " if ranks is not None else ""
    remedy = f"{more}set gradient_checkpointing, or lower rows_per_forward or seq_len"
    share = math.ceil(need.spread / num_ranks)
    if num_ranks == 1:
        share = max(share, need.alone)
    if share > gpu:
        fewest = max(num_ranks + 1, math.ceil(need.spread / (_USABLE * gpu)))
        raise ValueError(
            f"weights, gradients and optimizer state take {_gigabytes(share)} in each of "
            f"{num_ranks} processes, and a GPU has {_gigabytes(gpu)}; use {fewest} processes or "
            "more, or a smaller model"
        )
    return (
        f"training takes about {_gigabytes(need.in_each(num_ranks))} in each of {num_ranks} "
        f"processes, and a GPU has {_gigabytes(gpu)}; if it runs out of memory, {remedy}"
    )


def out_of_memory_line(error: BaseException) -> str:
    """What to do about a rank that got no more memory, in one line for people."""
    if isinstance(error, MemoryError):
        return (
            f"rank {rank()} on {socket.gethostname()} got no more memory of the host; use fewer "
            "processes a node, or a node with more memory"
        )
    said = " ".join(str(error).split())[:200]
    return (
        f"the GPU of rank {rank()} on {socket.gethostname()} is out of memory ({said}); use more "
        "processes, set gradient_checkpointing, or lower rows_per_forward or seq_len"
    )


def _gigabytes(amount: int) -> str:
    return quantity(amount, "GB", "MB")
