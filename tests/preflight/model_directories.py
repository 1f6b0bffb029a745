"""Model directories made of headers only: weights are holes in sparse files.

    python -m tests.preflight.model_directories llama-2-70b OUT

writes one with the tensors of a published model, in some kilobytes on a disk: its config.json, its
index, its files of weights, and a small tokenizer with Llama 2's template.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.conftest import LLAMA, sentencepiece_bpe, write_tokenizer

BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1}
INDEX = "model.safetensors.index.json"

Shapes = Mapping[str, tuple[int, ...]]
"""Tensor -> its shape."""


def header_of(shapes: Shapes, dtype: str = "BF16") -> tuple[bytes, int]:
    """The header of a safetensors file with its length, and the bytes of the weights after it."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + BYTES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    body = json.dumps(header).encode()
    return len(body).to_bytes(8, "little") + body, end


def write_weights(path: Path, shapes: Shapes, dtype: str = "BF16") -> None:
    """Writes a whole safetensors file whose weights are all zero and take no room."""
    header, num_bytes = header_of(shapes, dtype)
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(len(header) + num_bytes)


def write_model(
    folder: Path, config: Mapping[str, Any], shapes: Shapes, num_files: int, dtype: str = "BF16"
) -> Path:
    """Writes config.json, files of weights and, if there are several, their index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if num_files == 1:
        write_weights(folder / "model.safetensors", shapes, dtype)
        return folder
    names, weight_map = list(shapes), {}
    for number in range(num_files):
        part = names[number * len(names) // num_files : (number + 1) * len(names) // num_files]
        file = f"model-{number + 1:05}-of-{num_files:05}.safetensors"
        write_weights(folder / file, {name: shapes[name] for name in part}, dtype)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index))
    return folder


def llama(
    *, hidden: int, inner: int, layers: int, heads: int, kv_heads: int, vocabulary: int = 32000
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """config.json and shapes of a Llama."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
    }
    kv = hidden // heads * kv_heads
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(layers):
        for name, shape in {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
        }.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    return config, shapes | {
        "model.norm.weight": (hidden,),
        "lm_head.weight": (vocabulary, hidden),
    }


TINY: dict[str, Any] = {"hidden": 16, "inner": 24, "layers": 2, "heads": 2, "kv_heads": 1}
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "llama-2-13b": (
        {"hidden": 5120, "inner": 13824, "layers": 40, "heads": 40, "kv_heads": 40},
        3,
    ),
    "llama-2-70b": (
        {"hidden": 8192, "inner": 28672, "layers": 80, "heads": 64, "kv_heads": 8},
        15,
    ),
}
"""Name -> arguments of `llama`, and the number of files."""


def write_published(name: str, folder: Path) -> Path:
    """Writes a published model's directory, with a small tokenizer of the same kind."""
    sizes, num_files = PUBLISHED[name]
    write_model(folder, *llama(**sizes), num_files, "F16")
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return write_tokenizer(folder, sentencepiece_bpe(), LLAMA, **tokens)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=sorted(PUBLISHED))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    print(write_published(options.name, options.folder))
