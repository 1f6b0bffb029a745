"""The parts of the throughput benchmark that decide what its figures mean."""

from __future__ import annotations

import io
import json
from collections.abc import Hashable
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.throughput.models import LLAMAS, SIZES, engine_config, fill_vocabulary
from benchmarks.throughput.ratios import RATIOS, Measured, contender_table, figures_of, ratio_table
from benchmarks.throughput.ray_data_llm import BATCH_SIZE, equal_settings
from benchmarks.throughput.roofline import (
    Ceiling,
    Geometry,
    Job,
    Limit,
    decode_limit,
    job_limit,
    job_of,
    read_geometry,
)
from benchmarks.throughput.runs import run_config
from benchmarks.throughput.workload import (
    LONGEST_OVER_MEAN,
    Pass,
    build_prompts,
    draw_sets,
    geometric_lengths,
    ideal_cached_tokens,
    spread,
    with_geometric_lengths,
)
from orca2_gen.chat import Chat, encode_prompt, encode_text, load_chat
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.records import Problem
from orca2_gen.strategies import Strategies

H200 = Ceiling(flops_per_second=790e12, bytes_per_second=4.8e12)
LLAMA_8B = Geometry(layers=32, heads=32, kv_heads=8, head_dim=128, matmul_parameters=7_504_658_432)


def one_pass(seconds: float, *, tokens: int = 100, cached: int | None = 64) -> Pass:
    return Pass(
        seconds=seconds,
        requests=4,
        prompt_tokens=200,
        completion_tokens=tokens,
        cached_tokens=cached,
    )


def measured_pairs() -> Measured:
    passes = {name: [one_pass(2.0), one_pass(1.0)] for pair in RATIOS.values() for name in pair}
    passes["whole_path"] = [one_pass(2.5), one_pass(2.0)]
    return Measured(
        settings={"block_size": 32},
        passes=passes,
        ideal_cached_tokens={"whole_path": [64, 128]},
    )


def problems(count: int) -> list[Problem]:
    return [
        Problem(
            problem_id=f"sums/train/{n}",
            task="sums",
            question=f"What is {n} + 5?",
            target=str(n + 5),
            answer_type="numeric",
        )
        for n in range(count)
    ]


def test_no_question_occurs_in_two_sets() -> None:
    files = draw_sets({"one": 40, "two": 30})
    rows = [json.loads(line) for text in files.values() for line in text.splitlines()]
    assert len(rows) == 70
    assert len({row["question"] for row in rows}) == 70
    assert draw_sets({"one": 40, "two": 30}) == files


def test_prompts_are_those_of_scoring_block_by_block_and_strategy_by_strategy(
    chatml: Chat, strategies: Strategies
) -> None:
    one, two, three = problems(3)
    prompts = build_prompts([[one, two], [three]], strategies, chatml, max_tokens=9)
    asked = [(prompt.strategy, prompt.problem_id) for prompt in prompts]
    first, second, *_ = strategies.names
    assert asked[:4] == [
        (first, "sums/train/0"),
        (first, "sums/train/1"),
        (second, "sums/train/0"),
        (second, "sums/train/1"),
    ]
    assert asked[-1] == (strategies.names[-1], "sums/train/2")
    assert len(set(asked)) == len(asked) == 3 * len(strategies.names)
    messages = prompt_messages(strategies.system_message(first), user_text(one, strategies))
    assert prompts[0].token_ids == encode_prompt(chatml, messages)
    assert prompts[0].max_tokens == 9


def test_instructions_of_the_benchmark_fill_whole_blocks_with_the_models_tokenizer(
    strategies: Strategies,
) -> None:
    from benchmarks.throughput.models import STUDENT

    chat = load_chat(str(STUDENT))
    for name in strategies.names:
        ids = [
            prompt.token_ids
            for prompt in build_prompts([problems(2)], strategies, chat, max_tokens=1)
            if prompt.strategy == name
        ]
        shared = next(n for n, pair in enumerate(zip(*ids, strict=False)) if len(set(pair)) > 1)
        assert shared >= 96
        assert ideal_cached_tokens(ids, 32, set()) == shared // 32 * 32


def test_lengths_are_geometric_and_end_at_eight_times_their_mean() -> None:
    lengths = geometric_lengths(20_000, 24, seed=1)
    assert min(lengths) == 1
    assert max(lengths) == LONGEST_OVER_MEAN * 24
    assert sum(lengths) / len(lengths) == pytest.approx(24, rel=0.05)
    assert sum(length > 48 for length in lengths) / len(lengths) == pytest.approx(0.13, abs=0.02)


def test_prompts_with_lengths_differ_from_the_others_in_nothing_else(
    chatml: Chat, strategies: Strategies
) -> None:
    prompts = build_prompts([problems(3)], strategies, chatml, max_tokens=9)
    with_lengths = with_geometric_lengths(prompts, mean=4, seed=0)
    assert [p.token_ids for p in with_lengths] == [p.token_ids for p in prompts]
    assert [p.max_tokens for p in with_lengths] == geometric_lengths(len(prompts), 4, 0)


def test_a_block_counts_as_cached_from_its_second_occurrence() -> None:
    prompt = [1, 2, 3, 4, 5]
    assert ideal_cached_tokens([prompt], 2, set()) == 0
    assert ideal_cached_tokens([prompt, prompt, prompt], 2, set()) == 8


def test_a_prompts_last_token_is_never_cached() -> None:
    assert ideal_cached_tokens([[1, 2, 3, 4]] * 2, 2, set()) == 2


def test_a_block_is_shared_only_after_the_same_tokens() -> None:
    assert ideal_cached_tokens([[1, 1, 7, 7, 0], [2, 2, 7, 7, 0]], 2, set()) == 0
    assert ideal_cached_tokens([[1, 1, 7, 7, 0], [1, 1, 8, 8, 0]], 2, set()) == 2


def test_what_a_cache_holds_already_counts() -> None:
    seen: set[Hashable] = set()
    ideal_cached_tokens([[1, 2, 3]], 2, seen)
    assert ideal_cached_tokens([[1, 2, 9]], 2, seen) == 2


def test_a_ratio_is_the_median_over_pairs_and_not_of_the_means() -> None:
    found = spread([1.0, 4.0, 30.0], [2.0, 4.0, 10.0])
    assert (found.median, found.low, found.high) == (1.0, 0.5, 3.0)


def test_the_document_holds_a_median_for_every_ratio() -> None:
    figures = json.loads(json.dumps(figures_of(measured_pairs())))
    assert set(RATIOS) | {"prefix_over_ideal"} <= set(figures)
    assert figures["actor_over_raw"] == 1.0
    assert figures["path_over_raw"] == 0.65
    assert figures["min_max"]["path_over_raw"] == [0.5, 0.8]
    assert figures["prefix_over_ideal"] == 0.75
    assert figures["contenders"]["whole_path"]["ideal_cached_tokens"] == 192


def test_prefix_over_ideal_is_null_where_nothing_can_be_shared() -> None:
    measured = measured_pairs()
    measured.ideal_cached_tokens["whole_path"] = [0, 0]
    assert figures_of(measured)["prefix_over_ideal"] is None


def test_a_ratio_is_null_where_a_contender_did_not_run() -> None:
    measured = measured_pairs()
    del measured.passes["ray_data_llm"]
    figures = figures_of(measured)
    assert figures["path_over_ray_data_llm"] is None
    assert figures["path_over_ray_data_llm_defaults"] is not None


def test_the_tables_name_every_contender_and_every_ratio() -> None:
    out = io.StringIO()
    measured = measured_pairs()
    measured.passes["ray_data_llm"] = [one_pass(2.0, cached=None), one_pass(1.0, cached=None)]
    console = Console(file=out, width=200)
    console.print(contender_table("tiny", measured))
    console.print(ratio_table({"tiny": measured}))
    for name in (*measured.passes, *RATIOS, "prefix_over_ideal"):
        assert name in out.getvalue()


def test_the_fraction_of_the_roofline_is_of_the_overlap_limit() -> None:
    measured = measured_pairs()
    measured.limit = Limit(overlap=200.0, serial=100.0, binds="memory")
    roofline = figures_of(measured)["roofline"]
    assert figures_of(measured_pairs())["roofline"] is None
    assert str(contender_table("tiny", measured).caption).startswith("roofline: overlap 200.0")
    assert roofline["raw_fraction"] == 0.375
    assert roofline["whole_path_fraction"] == 0.225


@pytest.mark.parametrize(("live", "expected"), [(1, 320), (32, 7_960), (128, 19_100)])
def test_decode_limits_are_those_of_the_performance_table(live: int, expected: float) -> None:
    assert decode_limit(LLAMA_8B, H200, live, 1024) == pytest.approx(expected, rel=0.01)
    assert LLAMA_8B.kv_bytes_per_token == 128 * 1024


def test_job_limit_is_that_of_the_performance_table() -> None:
    job = Job(
        requests=665,
        prompt_tokens=600,
        uncached_tokens=500,
        completion_tokens=400,
        live_sequences=665,
    )
    limit = job_limit(LLAMA_8B, H200, job)
    assert limit.overlap == pytest.approx(23_000, rel=0.1)
    assert limit.serial < limit.overlap


def test_a_job_is_the_mean_of_its_passes() -> None:
    job = job_of([one_pass(1.0, tokens=40), one_pass(1.0, tokens=80)], max_num_seqs=2)
    assert (job.requests, job.live_sequences) == (4, 2)
    assert (job.prompt_tokens, job.uncached_tokens, job.completion_tokens) == (50.0, 34.0, 15.0)


def test_geometry_counts_the_parameters_that_are_multiplied(tmp_path: Path) -> None:
    config = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_geometry(tmp_path) == LLAMA_8B


def test_the_peer_gets_every_engine_value_of_ours_and_as_many_requests_in_flight() -> None:
    config = engine_config(Path("model"), SIZES["tiny"], on_gpu=False)
    settings = equal_settings(config)
    for name in ("dtype", "block_size", "max_num_seqs", "max_num_batched_tokens", "enforce_eager"):
        assert settings.engine_kwargs[name] == getattr(config, name)
    in_flight = settings.further["max_concurrent_batches"] * BATCH_SIZE
    assert in_flight >= settings.further["max_pending_requests"] == 2 * config.max_num_seqs


def test_each_set_is_a_task_of_the_run_and_one_unit(tmp_path: Path) -> None:
    engine = engine_config(Path("model"), SIZES["larger"], on_gpu=False)
    config = run_config(engine, SIZES["larger"], tmp_path / "larger", draw_sets({"pair-0": 16}))
    [task] = config.tasks
    assert task.name == "pair-0"
    assert len(Path(task.path).read_text().splitlines()) == 16
    assert config.rows_per_unit >= 16
    assert config.selection.scored_problems >= 16
    assert config.scoring.max_tokens == SIZES["larger"].max_tokens


def test_random_llamas_have_as_many_parameters_as_those_that_they_stand_for() -> None:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    published = {"llama-1b": 1_235_814_400, "llama-8b": 8_030_261_248}
    for name, number in published.items():
        config = LlamaConfig(**{"tie_word_embeddings": False, **LLAMAS[name]})
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        model.tie_weights()
        assert sum(each.numel() for each in model.parameters()) == number


def test_a_filled_vocabulary_has_a_text_for_every_id_and_reads_every_text_as_before(
    tmp_path: Path,
) -> None:
    from benchmarks.throughput.models import STUDENT

    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).write_bytes((STUDENT / name).read_bytes())
    fill_vocabulary(tmp_path / "tokenizer.json", 2000)
    filled, before = load_chat(str(tmp_path)), load_chat(str(STUDENT))
    assert len(filled.tokenizer) == 2000
    assert len({filled.tokenizer.decode([id_]) for id_ in range(1195, 2000)}) == 805
    for text in ("What is <1999> + 5?", "<|im_end|>", "Lizo lives in Pemar."):
        assert encode_text(filled, text) == encode_text(before, text)


def test_every_warm_up_fills_the_batch_and_leaves_no_part_of_a_batch_of_the_peer(
    strategies: Strategies,
) -> None:
    for size in SIZES.values():
        for num_problems in (size.problems, size.warm_up_problems):
            requests = num_problems * len(strategies.names)
            assert requests >= size.max_num_seqs
            assert requests % BATCH_SIZE == 0
