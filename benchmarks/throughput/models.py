"""The models of the benchmark and the engine values that every contender gets.

    tiny      the microworld's student, 2M parameters
    larger    a Llama of random weights, 35M parameters, seeded, with the student's tokenizer
    llama-1b, llama-8b    Llamas of random weights in the shapes of Llama 3.2 1B and Llama 3.1 8B,
              for a GPU

A step of tiny costs less than the work around it. A step of larger with 32 sequences takes tens of
milliseconds on a core, so the engine takes the time.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.run_directory.digests import TOKENIZER_FILES

MICROWORLD = Path(__file__).parents[2] / "orca2_gen" / "microworld"
STUDENT = MICROWORLD / "student"
MAX_MODEL_LEN = 512
"""Positions that the student was trained with."""
MODELS = ("tiny", "larger")
"""Models for a CPU."""


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
    # Three engines are up at once, which 80 GB hold: 3 x (16 + 5) GB of weights and cache.
    "llama-1b": Size(
        problems=256,
        warm_up_problems=64,
        max_tokens=128,
        mean_length=32,
        max_num_seqs=256,
        max_num_batched_tokens=8192,
        problems_per_unit=16,
        kv_cache_memory_bytes=3 << 30,
    ),
    "llama-8b": Size(
        problems=128,
        warm_up_problems=32,
        max_tokens=128,
        mean_length=32,
        max_num_seqs=128,
        max_num_batched_tokens=8192,
        problems_per_unit=8,
        kv_cache_memory_bytes=5 << 30,
    ),
}

LLAMAS: dict[str, dict[str, Any]] = {
    "larger": {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 10,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "max_position_embeddings": MAX_MODEL_LEN,
    },
    # The config.json of Llama-3.2-1B: 1,235,814,400 parameters.
    "llama-1b": {
        "vocab_size": 128_256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    },
    # The config.json of Llama-3.1-8B: 8,030,261,248 parameters.
    "llama-8b": {
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 8192,
        "dtype": "bfloat16",
    },
}
"""Model -> its LlamaConfig. Positions beyond 8,192 are left out: they cost nothing here."""


def model_directory(name: str, folder: Path) -> Path:
    """The directory of a model; one of random weights is made below `folder`, if it is not there.

    It appears there when all of it is written.
    """
    if name == "tiny":
        return STUDENT
    directory = folder / name
    if not directory.is_dir():
        partial = folder / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        make_random_llama(partial, **LLAMAS[name])
        partial.rename(directory)
    return directory


def make_random_llama(directory: Path, *, dtype: str = "float32", **sizes: Any) -> Path:
    """A Llama of random weights with the student's tokenizer; `sizes` are LlamaConfig's own.

    vLLM and our chat code load it like any other model. A GPU draws the weights if there is one and
    they are not float32, whose models are small and the same on every machine.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

    vocabulary = AutoConfig.from_pretrained(STUDENT, local_files_only=True)
    config = LlamaConfig(
        bos_token_id=None,
        eos_token_id=vocabulary.eos_token_id,
        pad_token_id=vocabulary.pad_token_id,
        **({"vocab_size": vocabulary.vocab_size, "tie_word_embeddings": False} | sizes),
    )
    on_gpu = dtype != "float32" and torch.cuda.is_available()
    torch.manual_seed(0)
    with torch.device("cuda" if on_gpu else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(directory)
    for name in TOKENIZER_FILES:
        if (STUDENT / name).is_file():
            shutil.copyfile(STUDENT / name, directory / name)
    fill_vocabulary(directory / "tokenizer.json", config.vocab_size)
    return directory


def fill_vocabulary(tokenizer: Path, vocab_size: int) -> None:
    """Gives every id below `vocab_size` a text: a model of random weights generates all of them.

    No text becomes such a token, since nothing merges into it.
    """
    told = json.loads(tokenizer.read_text(encoding="utf-8"))
    vocabulary = told["model"]["vocab"]
    taken = {*vocabulary.values(), *(added["id"] for added in told["added_tokens"])}
    vocabulary |= {f"<{id_}>": id_ for id_ in range(vocab_size) if id_ not in taken}
    tokenizer.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")


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
