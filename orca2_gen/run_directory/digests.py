"""Digests of files and models, for stage keys."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

MODEL_FILES = ("*.safetensors", "config.json", "generation_config.json", "*.index.json")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "generation_config.json",  # names the tokens that end a turn
)
"""Every file that makes a tokenizer and its template; the order goes into digests."""
_BLOCK_BYTES, _BLOCKS = 4096, 64


class ChangedInput(ValueError):
    """A file that determines rows is not what it was when the run began."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_digest(directory: Path) -> str:
    """A digest of a model directory that is quick at any size.

    It covers names, sizes, safetensors headers and 64 evenly spaced blocks of 4 KB of every weights
    file: headers alone would not tell a fine-tuned student from its start.

    Raises:
        ValueError: the directory holds no safetensors, or a damaged one.
    """
    names = sorted({path for pattern in MODEL_FILES for path in directory.glob(pattern)})
    if not any(path.suffix == ".safetensors" for path in names):
        raise ValueError(
            f"{directory} holds no .safetensors file; convert the weights with save_pretrained "
            "first"
        )
    parts = []
    for path in names:
        content = _weights_digest(path) if path.suffix == ".safetensors" else file_digest(path)
        parts.append([path.name, path.stat().st_size, content])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def tokenizer_files_digest(directory: Path) -> str:
    """A digest of the files that make a tokenizer and its chat template."""
    found = [
        [name, file_digest(directory / name)]
        for name in TOKENIZER_FILES
        if (directory / name).is_file()
    ]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def _weights_digest(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        length = file.read(8)
        header_bytes = struct.unpack("<Q", length)[0] if len(length) == 8 else size
        if header_bytes > size - 8:
            raise ValueError(
                f"{path} is not a whole safetensors file: its header would be longer than it; "
                "copy it again"
            )
        digest.update(file.read(header_bytes))
        step = max(_BLOCK_BYTES, (size - header_bytes) // _BLOCKS)
        for start in range(8 + header_bytes, size, step):
            file.seek(start)
            digest.update(file.read(_BLOCK_BYTES))
        file.seek(max(0, size - _BLOCK_BYTES))
        digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()
