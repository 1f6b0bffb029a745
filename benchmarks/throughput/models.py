"""The two models of the benchmark and the engine values that every contender gets.

    tiny    the microworld's student, 2M parameters
    larger  a Llama of random weights, 35M parameters, seeded, with the student's tokenizer

A step of tiny costs less than the work around it. A step of larger with 32 sequences takes tens of
milliseconds on a core, so the engine takes the time.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.config.schema import Config, RationalesConfig, SelectionConfig
from orca2_gen.config.scoring import ScoringConfig
from orca2_gen.config.task import TaskConfig
from orca2_gen.run_directory.digests import TOKENIZER_FILES
from orca2_gen.strategies import load_strategies
from ray_jobs.demo import CONFIG

STUDENT = CONFIG.parents[2] / "orca2_gen" / "microworld" / "student"
MAX_MODEL_LEN = 512
"""Positions that the student was trained with."""
MODELS = ("tiny", "larger")


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """The work of one pass of a model."""

    problems: int
    """Problems of one set; each is asked under all six strategies."""
    warm_up_problems: int
    max_tokens: int
    mean_length: int
    """Mean of the geometric lengths against blocking batches, which end at 8 times the mean."""
    max_num_seqs: int
    max_num_batched_tokens: int
    problems_per_unit: int
    """Problems of one committed unit (`selection.block_size`): two or more are open at once."""
    kv_cache_memory_bytes: int
    """Bytes for 128 live requests, the number that the peer runs at its defaults."""


SIZES = {
    "tiny": Size(
        problems=128,
        warm_up_problems=32,
        max_tokens=64,
        mean_length=32,
        max_num_seqs=64,
        max_num_batched_tokens=4096,
        problems_per_unit=16,
        kv_cache_memory_bytes=512 << 20,
    ),
    "larger": Size(
        problems=32,
        warm_up_problems=16,
        max_tokens=32,
        mean_length=24,
        max_num_seqs=32,
        max_num_batched_tokens=2048,
        problems_per_unit=8,
        kv_cache_memory_bytes=1536 << 20,
    ),
}


def model_directory(name: str, folder: Path) -> Path:
    """The directory of a model; the larger one is made below `folder` first."""
    return STUDENT if name == "tiny" else make_larger_model(folder / "larger")


def make_larger_model(directory: Path) -> Path:
    """The larger model."""
    return make_random_llama(
        directory,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=10,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=MAX_MODEL_LEN,
    )


def make_random_llama(directory: Path, **sizes: int) -> Path:
    """A Llama of random weights with the student's tokenizer; `sizes` are LlamaConfig's own.

    vLLM and our chat code load it like any other model.
    """
    import torch
    from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

    vocabulary = AutoConfig.from_pretrained(STUDENT, local_files_only=True)
    config = LlamaConfig(
        vocab_size=vocabulary.vocab_size,
        bos_token_id=None,
        eos_token_id=vocabulary.eos_token_id,
        pad_token_id=vocabulary.pad_token_id,
        tie_word_embeddings=False,
        **sizes,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(directory, safe_serialization=True)
    for name in TOKENIZER_FILES:
        if (STUDENT / name).is_file():
            shutil.copyfile(STUDENT / name, directory / name)
    return directory


def engine_config(model: Path, size: Size, *, on_gpu: bool) -> VLLMEngineConfig:
    """The engine values of all contenders except the one that runs at its defaults."""
    return VLLMEngineConfig(
        model=str(model),
        # As in the microworld's config: many CPUs only emulate bfloat16.
        dtype="bfloat16" if on_gpu else "float32",
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=size.max_num_seqs,
        max_num_batched_tokens=size.max_num_batched_tokens,
        # vLLM's own is 128 on a CPU, with which these instructions would share a single block.
        block_size=16 if on_gpu else 32,
        kv_cache_memory_bytes=size.kv_cache_memory_bytes,
        # On a GPU several engines share its memory, so each takes a small part.
        gpu_memory_utilization=0.1,
        enforce_eager=not on_gpu,
    )


def run_config(
    engine: VLLMEngineConfig, size: Size, folder: Path, sets: Mapping[str, str]
) -> Config:
    """A run whose tasks are these sets, name -> JSONL; each is one committed unit of problems."""
    folder.mkdir(exist_ok=True)
    tasks = []
    for name, text in sets.items():
        (folder / f"{name}.jsonl").write_text(text)
        tasks.append(TaskConfig(name=name, format="jsonl", path=str(folder / f"{name}.jsonl")))
    return Config(
        run_dir=str(folder / "run"),
        rows_per_unit=size.problems,
        tasks=tuple(tasks),
        student=engine,
        teacher=engine,
        # Every request is asked once, as by the other contenders.
        scoring=ScoringConfig(max_tokens=size.max_tokens, retry_max_tokens=size.max_tokens),
        rationales=RationalesConfig(max_tokens=size.max_tokens),
        selection=SelectionConfig(
            method="full_grid",
            scored_problems=size.problems,
            block_size=size.problems_per_unit,
        ),
    )


def settings_of(engine: VLLMEngineConfig, size: Size) -> dict[str, Any]:
    """The settings of an engine and its work that appear beside the figures."""
    names = {"dtype", "block_size", "max_num_seqs", "max_num_batched_tokens", "enforce_eager"}
    warm_up = size.warm_up_problems * len(load_strategies(None).names)
    return engine.model_dump(include=names | {"kv_cache_memory_bytes"}) | {
        "max_tokens": size.max_tokens,
        "mean_length": size.mean_length,
        "problems_per_unit": size.problems_per_unit,
        "warm_up_requests_discarded": warm_up,
    }
