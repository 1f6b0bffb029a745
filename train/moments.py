"""AdamW whose moments are kept in another number format between two steps.

The arithmetic of a step is torch's own, in float32. bfloat16 rounds what is kept to three digits,
which a second moment with beta2 = 0.95 survives: a step changes it by up to a twentieth, and
rounding by 1/512. With 0.999 most of a step's share would be rounded away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.optim.adamw import adamw

_MOMENTS = ("exp_avg", "exp_avg_sq")
_MOST_ELEMENTS = 1 << 26
"""Elements whose moments are in float32 at once, or those of one parameter."""


class CompactAdamW(torch.optim.Optimizer):  # type: ignore[misc]
    """AdamW with its moments in `dtype`; state and arguments have torch's names."""

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float],
        dtype: torch.dtype,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self._dtype = dtype

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Updates the parameters that have a gradient."""
        assert closure is None
        with torch.no_grad():
            for group in self.param_groups:
                for parameters in _batches(p for p in group["params"] if p.grad is not None):
                    self._update(parameters, group)

    def _update(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        states = [self._state_of(parameter) for parameter in parameters]
        first, second = ([state[name].float() for state in states] for name in _MOMENTS)
        beta1, beta2 = group["betas"]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters],
            first,
            second,
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        for state, *moments in zip(states, first, second, strict=True):
            for name, moment in zip(_MOMENTS, moments, strict=True):
                state[name].copy_(moment)

    def _state_of(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state.update(
                {name: torch.zeros_like(parameter, dtype=self._dtype) for name in _MOMENTS}
            )
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes a state; torch gives every tensor of it the parameter's format."""
        super().load_state_dict(state_dict)
        for state in self.state.values():
            for name in _MOMENTS:
                state[name] = state[name].to(self._dtype)


def _batches(parameters: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Parameters with few enough elements on this rank to be updated together."""
    found: list[torch.Tensor] = []
    elements = 0
    for parameter in parameters:
        own = parameter.to_local() if hasattr(parameter, "to_local") else parameter
        if found and elements + own.numel() > _MOST_ELEMENTS:
            yield found
            found, elements = [], 0
        found.append(parameter)
        elements += own.numel()
    if found:
        yield found
