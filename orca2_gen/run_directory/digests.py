"""Digests of files and models, for stage keys."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

from orca2_gen.run_directory.regular_files import open_regular

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
MOST_DIGESTED_BYTES = 64 << 30
"""Bytes of one task file: its digest takes two minutes by then; no published one has 10 GB."""
MOST_TEXT_BYTES = 1 << 30
"""Bytes of one of a model's files besides its weights, which libraries read whole: the largest
tokenizers have 40 MB."""
_MOST_HEADER_BYTES = 100_000_000
"""Bytes of a safetensors header; the library refuses larger ones too."""


class ChangedInput(ValueError):
    """A file that determines rows is not what it was when the run began."""


def file_digest(path: Path, most_bytes: int = MOST_DIGESTED_BYTES) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        ValueError: it is no regular file, or larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise ValueError(f"{path} has {size} bytes; expected at most {most_bytes}")
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_digest(directory: Path) -> str:
    """A digest of a model directory that is quick at any size.

    It covers names, sizes, safetensors headers and 64 evenly spaced blocks of 4 KB of every weights
    file: headers alone would not tell a fine-tuned student from its start.

    Raises:
        ValueError: the directory holds no safetensors, or a damaged one, or something other than a
            regular file under such a name.
    """
    names = sorted({path for pattern in MODEL_FILES for path in directory.glob(pattern)})
    if not any(path.suffix == ".safetensors" for path in names):
        raise ValueError(
            f"{directory} holds no .safetensors file; convert the weights with save_pretrained "
            "first"
        )
    parts = []
    for path in names:
        is_weights = path.suffix == ".safetensors"
        content = _weights_digest(path) if is_weights else file_digest(path, MOST_TEXT_BYTES)
        parts.append([path.name, path.stat().st_size, content])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def tokenizer_files_digest(directory: Path) -> str:
    """A digest of the files that make a tokenizer and its chat template."""
    found = [
        [name, file_digest(directory / name, MOST_TEXT_BYTES)]
        for name in TOKENIZER_FILES
        if (directory / name).exists()  # a FIFO too, which a library would wait for
    ]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def _weights_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = file.read(8)
        header_bytes = struct.unpack("<Q", length)[0] if len(length) == 8 else size
        if header_bytes > size - 8:
            raise ValueError(
                f"{path} is not a whole safetensors file: its header would be longer than it; "
                "copy it again"
            )
        if header_bytes > _MOST_HEADER_BYTES:
            raise ValueError(
                f"{path} has a header of {header_bytes} bytes; expected at most "
                f"{_MOST_HEADER_BYTES}: it is no file of weights"
            )
        digest.update(file.read(header_bytes))
        step = max(_BLOCK_BYTES, (size - header_bytes) // _BLOCKS)
        for start in range(8 + header_bytes, size, step):
            file.seek(start)
            digest.update(file.read(_BLOCK_BYTES))
        file.seek(max(0, size - _BLOCK_BYTES))
        digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()
