"""A tokenizer that writes a space before a text, but not behind a control token."""

from __future__ import annotations

import json
from typing import Any

SPACE = "\u2581"
"""Sentencepiece's space."""


def keep_spaces_out(tokenizer: Any) -> None:
    """Makes a sentencepiece tokenizer write its space before a text alone.

    Llama 2's, as first converted, writes one behind each control token too, so whoever encodes a
    rendered conversation gets other ids than its parts have. transformers calls that `legacy`, and
    has made Llama's tokenizers without it since.
    """
    backend = tokenizer.backend_tokenizer
    specification = json.loads(backend.to_str())
    normalizer, splitter = specification["normalizer"], specification["pre_tokenizer"]
    parts = [normalizer] if normalizer else []
    if normalizer and normalizer["type"] == "Sequence":
        parts = normalizer["normalizers"]
    prepends = [part for part in parts if part == {"type": "Prepend", "prepend": SPACE}]
    if prepends and splitter is None:
        others = [part for part in parts if part not in prepends]
        specification["normalizer"] = (
            {"type": "Sequence", "normalizers": others} if others else None
        )
        specification["pre_tokenizer"] = _metaspace()
    elif splitter and splitter["type"] == "Metaspace" and splitter["prepend_scheme"] == "always":
        specification["pre_tokenizer"] = {**splitter, "prepend_scheme": "first"}
    else:
        return
    tokenizer._tokenizer = type(backend).from_str(json.dumps(specification))
    if "legacy" in tokenizer.init_kwargs:
        tokenizer.init_kwargs["legacy"] = False


def _metaspace() -> dict[str, Any]:
    return {
        "type": "Metaspace",
        "replacement": SPACE,
        "prepend_scheme": "first",
        "split": False,
    }
