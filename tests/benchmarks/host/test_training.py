from __future__ import annotations

from benchmarks.host.training import TINY, _examples, flops_per_token
from benchmarks.throughput.roofline import Geometry

LLAMA_1B = Geometry(
    layers=16,
    heads=32,
    kv_heads=8,
    head_dim=64,
    # Llama 3.2 1B without its norms: 16 layers, and the LM head that is the embedding.
    matmul_parameters=16 * (2048 * 64 * (2 * 32 + 2 * 8) + 3 * 2048 * 8192) + 2048 * 128_256,
)


def test_a_trained_token_costs_six_flops_a_parameter_and_its_attention() -> None:
    # 790 TFLOP/s are the limit of 96,000 tokens/s at 2,048 tokens a row.
    assert round(790e12 / flops_per_token(LLAMA_1B, 2048), -3) == 96_000
    assert flops_per_token(LLAMA_1B, 0) == 6 * LLAMA_1B.matmul_parameters


def test_made_up_examples_fill_two_steps_and_fit_their_rows() -> None:
    examples = list(_examples(TINY, vocab_size=1000))
    lengths = [len(each.input_ids) for each in examples]
    slots = TINY.rows_per_step * TINY.seq_len
    assert 2 * slots <= sum(lengths) < 2 * slots + TINY.example_tokens[1]
    assert max(lengths) <= TINY.seq_len
    assert all(min(each.input_ids) >= 10 and max(each.input_ids) < 1000 for each in examples)
    assert all(0 < each.num_labels < len(each.input_ids) for each in examples)
