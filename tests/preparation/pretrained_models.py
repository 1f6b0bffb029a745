"""Small base models, random, as published ones are saved: no template, several files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    PreTrainedTokenizerFast,
)

from tests.chat.tokenizers import byte_level, markers_of, sentencepiece_legacy, sentencepiece_spaces

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of base model."""

    name: str
    model_type: str
    tied: bool
    spare: int = 0
    """Rows of the embedding beyond the tokenizer's ids."""
    dtype: torch.dtype = torch.bfloat16


KINDS = (
    Kind(name="llama_2", model_type="llama", tied=False, dtype=torch.float16),
    Kind(name="llama_wide", model_type="llama", tied=False, spare=64, dtype=torch.float32),
    Kind(name="qwen_2", model_type="qwen2", tied=True, spare=40),
    Kind(name="qwen_bare", model_type="qwen2", tied=True, spare=1),
    Kind(name="gemma_3", model_type="gemma3_text", tied=True),
    Kind(name="gpt_2", model_type="gpt2", tied=True, dtype=torch.float32),
    Kind(name="phi", model_type="phi", tied=False),
)


def tokenizer_of(kind: Kind) -> PreTrainedTokenizerFast:
    if kind.name.startswith("llama"):
        made = sentencepiece_legacy(markers_of("<unk>", "<s>", "</s>"))
        tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    elif kind.name.startswith("gemma"):
        names = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
        made = sentencepiece_spaces(markers_of(*names))
        tokens = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    elif kind.name == "qwen_2":
        made = byte_level(markers_of("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
        tokens = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    else:
        made = byte_level(markers_of("<|endoftext|>"))
        tokens = {"eos_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **tokens)


def write_base(folder: Path, kind: Kind, shard: str = "20KB") -> Path:
    """Writes a base model in several files."""
    tokenizer = tokenizer_of(kind)
    rows = max(tokenizer.get_vocab().values()) + 1 + kind.spare
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(3)
    if kind.model_type == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 2048}
        config: Any = GPT2Config(vocab_size=rows, **sizes, **ids)
    else:
        more = {"head_dim": 16} if kind.model_type == "gemma3_text" else {}
        more |= {"pad_token_id": tokenizer.pad_token_id, "tie_word_embeddings": kind.tied}
        config = AutoConfig.for_model(kind.model_type, vocab_size=rows, **_SIZES, **ids, **more)
    model = AutoModelForCausalLM.from_config(config, dtype=kind.dtype)
    model.generation_config = GenerationConfig(**ids, max_new_tokens=77)
    model.save_pretrained(folder, max_shard_size=shard)
    tokenizer.save_pretrained(folder)
    (folder / "LICENSE.txt").write_text("terms")
    return folder


def tensors_of(folder: Path) -> Mapping[str, torch.Tensor]:
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found


def body(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())
