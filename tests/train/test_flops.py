from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from train.flops import peak_flops, training_flops

BuildLlama = Callable[..., LlamaForCausalLM]


@pytest.mark.parametrize("tied", [True, False])
def test_the_operations_of_a_step_are_those_that_torch_counts(
    build_llama: BuildLlama, tied: bool
) -> None:
    model = build_llama("eager", tied=tied)
    ids_BT = torch.arange(48).unsqueeze(0)
    with FlopCounterMode(display=False) as counted:
        model(input_ids=ids_BT, use_cache=False).logits.sum().backward()
    ours = training_flops(model).of(num_tokens=48, sum_of_squares=48 * 48)
    # Norms are parameters that are multiplied with, and no matrices; nothing needs the gradient of
    # the first layer's inputs in a table.
    assert ours == pytest.approx(counted.get_total_flops(), rel=0.05)


def test_experts_count_as_many_times_as_a_token_is_sent_to_them() -> None:
    sizes = {
        **{"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16},
    }

    def per_token(num_experts: int) -> float:
        config = MixtralConfig(**sizes, num_local_experts=num_experts, num_experts_per_tok=2)
        return training_flops(MixtralForCausalLM(config)).per_token

    router = 6.0 * 32
    assert per_token(8) - per_token(4) == pytest.approx(4 * router)


def test_the_peak_of_a_cpu_is_not_known() -> None:
    assert peak_flops(torch.device("cpu"), torch.bfloat16) is None


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("Somebody's card", None),
    ],
)
def test_the_peak_of_a_gpu_goes_by_its_name(
    name: str, peak: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda"), torch.bfloat16) == peak
    assert peak_flops(torch.device("cuda"), torch.float32) is None
