"""The weights of a model that rank 0 alone has read -> every rank's share of them.

The host then holds one copy of the weights in all. Where each rank read them, eight ranks needed
416 GB for 13 billion parameters in float32.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from train.ranks import device, rank


def strays(shell: nn.Module) -> list[str]:
    """Tensors of a model without values that are neither parameters nor buffers.

    Nobody could fill them: such a model is read by every rank.
    """
    return sorted(
        f"{name}.{key}"
        for name, module in shell.named_modules()
        for key, value in vars(module).items()
        if key not in ("_parameters", "_buffers")
        and any(tensor.is_meta for tensor in _tensors_in(value))
    )


def _tensors_in(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors_in(each)
    elif type(value) is dict:
        for each in value.values():
            yield from _tensors_in(each)


def check_ties(parts: Sequence[nn.Module], name: str) -> None:
    """Refuses a model whose parts share a weight, since each would train a copy of its own.

    Args:
        parts: the modules that FSDP shards one by one, the inner before the outer.
        name: class of the model, for the message.

    Raises:
        ValueError: two parts share one.
    """
    done: set[int] = set()
    owned: set[int] = set()
    for part in parts:
        own = {id(parameter) for parameter in _own_parameters(part, done)}
        if own & owned:
            raise ValueError(
                f"{name} ties weights of several layers, which cannot be shared out among "
                "processes; train it in one"
            )
        owned |= own
        done.add(id(part))


def _own_parameters(module: nn.Module, done: Set[int]) -> Iterator[nn.Parameter]:
    """The parameters of a module without those of the modules inside that are done."""
    yield from (each for each in module._parameters.values() if each is not None)
    for child in module.children():
        if id(child) not in done:
            yield from _own_parameters(child, done)


def buffers_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """The buffers of a model, such as rotary frequencies, which no file of weights holds."""
    return {name: buffer.cpu() for name, buffer in model.named_buffers()}


def give_buffers(shell: nn.Module, buffers: Mapping[str, torch.Tensor]) -> None:
    """Gives a model without values its buffers."""
    for name, value in buffers.items():
        parent, _, key = name.rpartition(".")
        shell.get_submodule(parent)._buffers[key] = value


def give_memory(part: nn.Module, tied: dict[int, nn.Parameter]) -> None:
    """Gives the parameters of a part of the model memory in place of shapes alone.

    It is not written to, so that it takes none until FSDP copies this rank's share.

    Args:
        part: a layer, or the model once its layers have memory.
        tied: parameters that several modules have, by the id of the one without values.
    """
    times = Counter(
        id(parameter)
        for module in part.modules()
        for parameter in module._parameters.values()
        if parameter is not None
    )
    for module in part.modules():
        for key, shape in module._parameters.items():
            if shape is None or not shape.is_meta:
                continue
            given = tied.get(id(shape))
            if given is None:
                memory = torch.empty_like(shape, device="cpu")
                given = nn.Parameter(memory, requires_grad=shape.requires_grad)
                if times[id(shape)] > 1:
                    tied[id(shape)] = given
            module._parameters[key] = given


def share(weights: dict[str, torch.Tensor] | None, model: nn.Module) -> None:
    """Gives each rank its share of rank 0's weights, one tensor after another; every rank calls it.

    They travel in the format in which they were read.

    Args:
        weights: the whole parameters by name, on rank 0, which are taken out; None elsewhere.
        model: gets them; its parameters are sharded.
    """
    assert (weights is None) == (rank() != 0)
    formats: list[Any] = [{name: each.dtype for name, each in weights.items()} if weights else None]
    dist.broadcast_object_list(formats, src=0)
    sizes = [own.numel() * formats[0][name].itemsize for name, own in model.named_parameters()]
    # One piece of memory for all: freed ones of many sizes stay with the process for good.
    received = torch.empty(max(sizes) if weights is None else 0, dtype=torch.uint8, device=device())
    for (name, own), size in zip(model.named_parameters(), sizes, strict=True):
        if weights is None:
            whole = received[:size].view(formats[0][name]).view(own.shape)
        else:
            whole = weights.pop(name).to(device()).contiguous()
        dist.broadcast(whole, src=0)
        assert isinstance(own, DTensor)
        mine = distribute_tensor(whole, own.device_mesh, own.placements, src_data_rank=None)
        with torch.no_grad():
            own.to_local().copy_(mine.to_local())
