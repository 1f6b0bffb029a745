"""The probes against models that are known, and against themselves spoilt on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from train.architecture import attention_of
from train.head import head_is_matrix
from train.isolation import Isolation, probed_isolation, settled
from train.layouts import Layout
from train.loss import LabelledLoss
from train.probes import probed
from train.tiny_copy import layers_of_every_kind, tiny_copy

BuildLlama = Callable[..., LlamaForCausalLM]


def tiny(kind: str, **values: Any) -> Any:
    """A tiny copy of a kind's usual config."""
    config = CONFIG_MAPPING[kind](**values)
    attention = attention_of(config)
    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return tiny_copy(config, layers_of_every_kind(whole, config), attention)


@pytest.mark.parametrize(
    ("kind", "layout", "is_matrix"),
    [
        ("llama", "packed", True),
        ("gemma2", "packed", False),
        ("gpt2", "packed", True),
        ("granite", "packed", True),
        ("mixtral", "packed", True),
        ("falcon", "apart", True),
        ("mamba", "apart", True),
        ("qwen3_next", "apart", True),
        ("llama4_text", "apart", False),
    ],
)
def test_the_rows_of_known_kinds(kind: str, layout: Layout, is_matrix: bool) -> None:
    loaded = probed(tiny(kind))
    assert loaded.isolation.layout == layout
    assert loaded.loss.head_is_matrix is is_matrix
    assert bool(loaded.isolation.reason) == (layout != "packed")
    assert settled(loaded.loss, loaded.isolation) == loaded.isolation


def test_gradients_that_differ_though_the_losses_agree_ask_for_stricter_rows(
    build_llama: BuildLlama,
) -> None:
    model = build_llama()
    norm = model.model.norm
    norm.register_full_backward_hook(
        lambda _, grads, __: tuple(grad * (1.0 + 0.1 * (grad.shape[1] > 23)) for grad in grads)
    )
    packed = Isolation(layout="packed")
    assert settled(LabelledLoss(model), packed).layout == "apart"


def test_a_kind_of_layer_that_few_have_is_in_the_copy() -> None:
    attention = ["full_attention"] * 8
    sizes = {"layer_types": attention, "num_hidden_layers": 8}
    assert probed(tiny("lfm2", **sizes)).isolation.layout == "packed"
    attention[5] = "conv"
    assert probed(tiny("lfm2", **sizes)).isolation.layout == "apart"


class _Mean(nn.Module):  # type: ignore[misc]
    """Adds a little of the mean of all that stands before, whatever the mask says."""

    def __init__(self, layer: nn.Module, share: float, *, reads_ahead: bool) -> None:
        super().__init__()
        self.layer, self.share, self.reads_ahead = layer, share, reads_ahead

    def forward(self, hidden_BTH: torch.Tensor, **others: Any) -> torch.Tensor:
        found = self.layer(hidden_BTH, **others)
        counts = torch.arange(1, hidden_BTH.shape[1] + 1).view(1, -1, 1)
        means = hidden_BTH.cumsum(dim=1) / counts
        if self.reads_ahead:
            means = hidden_BTH.mean(dim=1, keepdim=True)
        return found + self.share * means


@pytest.mark.parametrize("share", [1.0, 1e-3])
def test_a_layer_that_reads_what_stands_before_is_found_however_little_it_takes(
    build_llama: BuildLlama, share: float
) -> None:
    model = build_llama()
    model.model.layers[1] = _Mean(model.model.layers[1], share, reads_ahead=False)
    assert probed_isolation(LabelledLoss(model)).layout == "apart"


def test_a_model_that_reads_ahead_is_refused(build_llama: BuildLlama) -> None:
    model = build_llama()
    model.model.layers[1] = _Mean(model.model.layers[1], 1e-3, reads_ahead=True)
    with pytest.raises(ValueError, match="no causal language model"):
        probed_isolation(LabelledLoss(model))


def test_a_model_that_differs_from_pass_to_pass_is_refused(build_llama: BuildLlama) -> None:
    model = build_llama()
    model.model.norm.register_forward_hook(lambda _, __, hidden: hidden + torch.randn(1))
    with pytest.raises(ValueError, match="another loss in each pass"):
        probed_isolation(LabelledLoss(model))


def test_a_model_in_which_rows_see_each_other_trains_on_one_example_at_a_time(
    build_llama: BuildLlama,
) -> None:
    model = build_llama()
    model.model.norm.register_forward_hook(
        lambda _, __, hidden: (
            hidden + 0.01 * hidden.mean(dim=(0, 1), keepdim=True).detach()
            if hidden.shape[0] > 1
            else hidden
        )
    )
    assert probed_isolation(LabelledLoss(model)).layout == "alone"


@pytest.mark.parametrize(
    ("change", "is_matrix"),
    [
        (lambda logits: logits, True),
        (lambda logits: 0.5 * logits, False),
        (lambda logits: 30.0 * torch.tanh(logits / 30.0), False),
    ],
)
def test_what_a_model_does_to_its_logits_is_found_and_trained_through(
    build_llama: BuildLlama, change: Callable[[torch.Tensor], torch.Tensor], is_matrix: bool
) -> None:
    model = build_llama()
    real = model.forward

    def changed(**asked: Any) -> Any:
        outputs = real(**asked)
        outputs.logits = change(outputs.logits)
        return outputs

    model.forward = changed
    assert head_is_matrix(model) is is_matrix
    loaded = probed(model)  # which compares our loss with the one of these logits
    assert loaded.loss.head_is_matrix is is_matrix and loaded.isolation.layout == "packed"


def test_a_coefficient_without_experts_balances_nothing() -> None:
    assert probed(tiny("mixtral")).loss.router is not None
    assert probed(tiny("doge")).loss.router is None


def test_the_probe_leaves_a_model_as_it_was(build_llama: BuildLlama) -> None:
    model = build_llama()
    model.train()
    model.model.norm.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    probed_isolation(LabelledLoss(model))
    assert model.training and not model.model.norm.weight.requires_grad
    assert model.lm_head.weight.requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
