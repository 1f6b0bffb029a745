"""Muon for matrices, in the precision that the device multiplies fast.

`torch.optim.Muon` always orthogonalises in bfloat16. A CPU without bfloat16 instructions multiplies
that ten times slower than float32: a step of the microworld's student takes 4.5 s there, 0.2 s
here. The update is the same (`tests/train/test_muon.py` compares the two), and so is the state's
name.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor

# Quintic Newton-Schulz, steepest at 0: singular values end between about 0.7 and 1.2 and not at 1,
# which trains as well. https://kellerjordan.github.io/posts/muon/
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
MOST_ELEMENTS = 1 << 26
"""Elements of matrices that are made orthogonal together, or of one. Every rank holds them whole,
so all 64 of one shape of a 7-billion model would take more of a GPU than all else."""


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """Momentum made orthogonal, scaled to AdamW's root mean square, with decoupled decay."""

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        *,
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        momentum_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        shapes = [tuple(p.shape) for group in self.param_groups for p in group["params"]]
        self._dtype = momentum_dtype
        assert all(len(shape) in (2, 3) for shape in shapes), f"Muon takes matrices, not {shapes}"

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Updates the parameters that have a gradient."""
        assert closure is None
        with torch.no_grad():
            for group in self.param_groups:
                same_shape: dict[tuple[int, ...], list[torch.Tensor]] = defaultdict(list)
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        same_shape[tuple(parameter.shape)].append(parameter)
                for shape, parameters in same_shape.items():
                    together = max(1, MOST_ELEMENTS // max(1, math.prod(shape)))
                    for first in range(0, len(parameters), together):
                        self._update(parameters[first : first + together], group)

    def _update(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        """Updates matrices of one shape together, since a tiny model has many small ones."""
        directions = [self._direction(parameter, group["momentum"]) for parameter in parameters]
        updates = _orthogonal(torch.stack(directions))
        rate = group["lr"] * 0.2 * math.sqrt(max(parameters[0].shape[-2:]))
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
            parameter.add_(_placed_like(parameter, update), alpha=-rate)

    def _direction(self, parameter: torch.Tensor, momentum: float) -> torch.Tensor:
        """The Nesterov momentum of one parameter, whole on every rank."""
        grad = parameter.grad
        assert grad is not None
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(grad, dtype=self._dtype)
        mean = state["momentum_buffer"].to(grad.dtype).lerp_(grad, 1.0 - momentum)
        state["momentum_buffer"].copy_(mean)  # nothing is copied where the two are one
        direction = grad.lerp(mean, momentum)
        return direction.full_tensor() if isinstance(direction, DTensor) else direction

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes a state; torch gives every tensor of it the parameter's format."""
        super().load_state_dict(state_dict)
        for state in self.state.values():
            state["momentum_buffer"] = state["momentum_buffer"].to(self._dtype)


def _orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices, in the last two dimensions, with the same singular vectors and singular values
    near 1.
    """
    shape = matrices.shape
    matrices = matrices.reshape(-1, *shape[-2:])
    a, b, c = _COEFFICIENTS
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices
    x = x.bfloat16() if x.is_cuda else x.float()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).reshape(shape)


def _placed_like(parameter: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
    if not isinstance(parameter, DTensor):
        return update.to(parameter.dtype)
    # Every rank computes the same update, so each keeps its shard and nothing is sent.
    return distribute_tensor(
        update.to(parameter.dtype), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
