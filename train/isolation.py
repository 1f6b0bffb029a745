"""Do examples of one row see each other? Asked of the model itself, not of its architecture's name.

transformers hands position ids to the attention mask in some models and not in others, and a layer
with a state or a convolution reads what stands before, whatever the mask says. So the loss of a
short example, and its gradient at every input, are measured alone and in company: in one row with
two others, and in a row of its own beside a longer one. The rows in which they do not change are
those that training may use.

Shapes: T tokens of a row, H hidden size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import nn

from train.batches import IGNORE_INDEX, Batch, Encoded, ForwardPass, build_batch
from train.layouts import Layout
from train.loss import LabelledLoss
from train.probe_examples import LENGTHS, LOSS_TOLERANCE, one_row, probe_examples

GRADIENT_TOLERANCE = 1e-3
"""Relative differences that rounding explains: float32 in another order, through a hundred layers.
A model of random weights that ignores positions differs by 0.06 and more."""
LEAK = 1e-6
"""Largest gradient at another example's input, against the largest at its own. Where nothing leads
from one to the other it is 0 and not small: masked attention has a weight of 0."""
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
"""From the one that asks most of a model to the one that asks nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Isolation:
    """The rows in which a model can be trained on several examples at a time."""

    layout: Layout
    reason: str = ""
    """Why not packed, for people; empty if packed."""
    may_part: bool = False
    """Whether packed examples may as well be passed apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Measured:
    """The summed loss of the labelled tokens of one row, and its gradient at every input."""

    loss: float
    gradient_TH: torch.Tensor


def probed_isolation(loss: LabelledLoss) -> Isolation:
    """The Isolation of a model, unsharded, on whatever device it is.

    Raises:
        ValueError: a token's loss depends on what comes after it, or changes from pass to pass, or
            nothing can be measured; one line.
    """
    name = type(loss.model).__name__
    with _frozen(loss.model):
        try:
            probe = _Probe(loss)
            alone = probe.alone()
            again = probe.alone()
        except Exception as error:  # the model's own code
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"{name} cannot be trained on token ids alone ({reason})") from error
        if not (_is_finite(alone) and _agree(alone, again)):
            raise ValueError(
                f"{name} gives the same example another loss in each pass ({alone.loss:.6g}, then "
                f"{again.loss:.6g}), so no training of it can be checked; choose another model"
            )
        if probe.reads_ahead():
            raise ValueError(
                f"{name} is no causal language model: the loss of a token depends on the tokens "
                "after it; choose another model"
            )
        if probe.is_isolated(alone, "packed"):
            return Isolation(layout="packed", may_part=probe.is_isolated(alone, "apart"))
        if probe.is_isolated(alone, "apart"):
            reason = f"packed examples see each other in {name}, so each gets a row of its own"
            return Isolation(layout="apart", reason=reason)
    reason = f"examples of one forward pass see each other in {name}, so each gets its own"
    return Isolation(layout="alone", reason=reason)


class _Probe:
    """Three examples and a model in which they are measured."""

    def __init__(self, loss: LabelledLoss) -> None:
        self._loss = loss
        self._device = next(loss.parameters()).device
        self.examples = probe_examples(loss.model)

    def alone(self) -> _Measured:
        example = self.examples[0]
        return self._measured(one_row([example]), slice(0, len(example.input_ids)))

    def reads_ahead(self) -> bool:
        """Whether the loss of the first half of an example depends on the second."""
        half = LENGTHS[0] // 2
        row = one_row(self.examples[:1])
        row.labels_BT[0, half:] = IGNORE_INDEX
        gradient_TH = self._measured(row, slice(0, LENGTHS[0])).gradient_TH
        # The token before the first half's end is the last that predicts one of it.
        return _largest(gradient_TH[half:]) > LEAK * _largest(gradient_TH[:half])

    def is_isolated(self, alone: _Measured, layout: Layout) -> bool:
        """Whether the first example is the same in rows of a layout, and depends on itself only."""
        asked, short, long = self.examples
        if layout == "packed":
            # Behind two others, before one, and in the second of two rows.
            groups = [[[long, short, asked]], [[asked, long]], [[short, long], [long, asked]]]
        else:
            groups = [[[asked], [long]], [[long], [asked], [short]]]
        return all(self._is_same(alone, group, layout) for group in groups)

    def _is_same(self, alone: _Measured, rows: Sequence[Sequence[Encoded]], layout: Layout) -> bool:
        asked = self.examples[0]
        num_slots = max(sum(len(each.input_ids) for each in row) for row in rows) + 2
        [made] = build_batch(rows, num_slots, layout=layout).passes
        found = made.input_ids_BT.tolist()
        ids = asked.input_ids.tolist()
        [(b, start)] = [
            (b, start)
            for b, row in enumerate(found)
            for start in range(len(row) - len(ids) + 1)
            if row[start : start + len(ids)] == ids
        ]
        here = slice(start, start + len(ids))
        only = torch.full_like(made.labels_BT, IGNORE_INDEX)
        only[b, here] = made.labels_BT[b, here]
        row = ForwardPass(
            input_ids_BT=made.input_ids_BT, labels_BT=only, position_ids_BT=made.position_ids_BT
        )
        try:
            measured, elsewhere = self._split(row, b, here)
        except Exception:  # the model's own code, which knows no such rows
            return False
        return _agree(alone, measured) and elsewhere <= LEAK * _largest(measured.gradient_TH)

    def _measured(self, row: ForwardPass, here: slice) -> _Measured:
        return self._split(row, 0, here)[0]

    def _split(self, row: ForwardPass, b: int, here: slice) -> tuple[_Measured, float]:
        """What is measured at these inputs of row b, and the largest gradient at all others."""
        with _inputs_of(self._loss.model) as inputs, torch.enable_grad():
            tensors = (row.input_ids_BT, row.labels_BT, row.position_ids_BT)
            summed = self._loss(*(tensor.to(self._device) for tensor in tensors))
            if not inputs:
                raise ValueError("its embeddings are not read where they can be seen")
            gradients = torch.autograd.grad(summed, inputs, allow_unused=True)
        found = [each for each in gradients if each is not None]
        if not found:
            raise ValueError("its loss does not depend on its inputs")
        gradient_BTH = sum(each.reshape(*row.labels_BT.shape, -1) for each in found)
        assert isinstance(gradient_BTH, torch.Tensor)
        own = gradient_BTH[b, here].clone()
        gradient_BTH[b, here] = 0.0
        return _Measured(loss=summed.item(), gradient_TH=own), _largest(gradient_BTH)


def _agree(one: _Measured, other: _Measured) -> bool:
    difference = (one.gradient_TH - other.gradient_TH).norm()
    return bool(
        abs(one.loss - other.loss) <= LOSS_TOLERANCE * (1.0 + abs(one.loss))
        and difference <= GRADIENT_TOLERANCE * one.gradient_TH.norm()
    )


def _is_finite(measured: _Measured) -> bool:
    return bool(torch.tensor(measured.loss).isfinite() and measured.gradient_TH.isfinite().all())


def _largest(gradient: torch.Tensor) -> float:
    return float(gradient.abs().max()) if gradient.numel() else 0.0


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Sets dropout aside, and the gradients of the weights, which would need their memory again."""
    was_training = model.training
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        model.train(was_training)


@contextmanager
def _inputs_of(model: Any) -> Iterator[list[torch.Tensor]]:
    """A list that gets the embedded inputs of each pass, which get gradients."""
    inputs: list[torch.Tensor] = []

    def keep(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        inputs.append(output.detach().requires_grad_())
        return inputs[-1]

    handle = model.get_input_embeddings().register_forward_hook(keep)
    try:
        yield inputs
    finally:
        handle.remove()


def settled(loss: LabelledLoss, isolation: Isolation) -> Isolation:
    """The Isolation, or a stricter one in which the gradients of all weights are as they should be.

    They are those of the examples one by one. It takes the memory of the weights again, so it is
    asked of a tiny copy.
    """
    examples = probe_examples(loss.model)
    loss.model.eval()
    alone = _weight_gradients(loss, build_batch([examples], sum(LENGTHS), layout="alone"))

    def is_right(layout: Layout) -> bool:
        found = _weight_gradients(loss, build_batch([examples], sum(LENGTHS), layout=layout))
        return bool((found - alone).norm() <= GRADIENT_TOLERANCE * alone.norm())

    for layout in LAYOUTS[LAYOUTS.index(isolation.layout) :]:
        if layout == "alone" or is_right(layout):
            break
    if layout == isolation.layout:
        return replace(isolation, may_part=isolation.may_part and is_right("apart"))
    return Isolation(
        layout=layout,
        reason=f"examples change each other's gradients in {type(loss.model).__name__}",
    )


def _weight_gradients(loss: LabelledLoss, batch: Batch) -> torch.Tensor:
    """The gradients of all weights that a batch reaches, in one row; the router has no part."""
    only = LabelledLoss(loss.model, head_is_matrix=loss.head_is_matrix)
    loss.zero_grad(set_to_none=True)
    for each in batch.passes:
        only(each.input_ids_BT, each.labels_BT, each.position_ids_BT).backward()
    gradients = [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for parameter in loss.parameters()
    ]
    loss.zero_grad(set_to_none=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


def unreached_weights(loss: LabelledLoss) -> set[str]:
    """The kinds of weights, as `kind_of` says, that get no gradient from token ids.

    Some models choose among tokens by weights that this loss does not train. It takes memory, as
    `settled` does, so it is asked of a tiny copy.
    """
    examples = probe_examples(loss.model)
    loss.model.eval()
    loss.zero_grad(set_to_none=True)
    for row in build_batch([examples], sum(LENGTHS), layout="alone").passes:
        loss(row.input_ids_BT, row.labels_BT, row.position_ids_BT).backward()
    named = list(loss.model.named_parameters())
    reached = {kind_of(name) for name, parameter in named if parameter.grad is not None}
    loss.zero_grad(set_to_none=True)
    return {kind_of(name) for name, _ in named} - reached


def kind_of(name: str) -> str:
    """The name of a weight without the numbers of layers and experts in it."""
    return re.sub(r"\.\d+(?=\.|$)", ".#", name)
