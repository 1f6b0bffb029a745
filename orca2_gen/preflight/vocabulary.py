"""Does a model have every token of its tokenizer?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orca2_gen.chat import Chat
from orca2_gen.preflight.headers import Tensor
from orca2_gen.preflight.model_config import model_body, overridden, said, text_config

_EMBEDDINGS = (
    *("model.embed_tokens.weight", "transformer.wte.weight"),
    *("model.language_model.embed_tokens.weight", "language_model.model.embed_tokens.weight"),
)
"""Names of the tensor that holds a row for each token."""
_WHOLE = ("F32", "F16", "BF16")
"""Formats of numbers that are not packed."""


def vocabulary_lines(
    key: str,
    directory: Path,
    chat: Chat,
    tensors: Mapping[str, Tensor],
    overrides: Mapping[str, Any] | None = None,
) -> tuple[list[str], list[str]]:
    """What a model's vocabulary is, and what of it is odd, in lines for people.

    Args:
        key: key in the config that names the directory.
        directory: the model's.
        chat: its tokenizer.
        tensors: its weights, as far as they are known.
        overrides: what the engine's hf_overrides put in the place of its config.json.

    Raises:
        ValueError: the tokenizer has ids that the model has not, or the weights have another number
            of rows than config.json says; one line that names key, directory and remedy.
    """
    rows, is_nested = _rows(key, directory, overrides or {})
    if rows is None:
        return [], []
    held = [
        (name, tensors[name].shape[0])
        for name in _EMBEDDINGS
        if name in tensors and tensors[name].dtype in _WHOLE and len(tensors[name].shape) == 2
    ]
    if is_nested:  # such a model may have rows of its own for images
        rows = max(rows, *(number for _, number in held), 0)
    ids = chat.tokenizer.get_vocab()
    padding = chat.tokenizer.pad_token_id
    beyond = {number: token for token, number in ids.items() if number >= rows}
    # Nothing that is asked or trained holds padding, and many tokenizers got it later.
    is_padding_alone = set(beyond) == {padding} and padding not in chat.end_ids
    if beyond and not is_padding_alone:
        first = min(beyond)
        raise ValueError(
            f"{key}: the tokenizer in {directory} has {len(beyond)} token{'s'[: len(beyond) > 1]} "
            f"that the model lacks, for example {beyond[first]!a:.80} ({first}), and config.json "
            f"says vocab_size {rows}; give the model its own tokenizer, or resize its embeddings "
            "(resize_token_embeddings) and save both"
        )
    for name, number in held:
        if number != rows and not is_nested:
            raise ValueError(
                f"{key}: {directory / 'config.json'} says vocab_size {rows}, and {name} has "
                f"{number} rows; save config and weights together, with save_pretrained"
            )
    odd = []
    if beyond:
        odd.append(f"the padding token {beyond[padding]!a:.80} ({padding}) has no row in the model")
    return [f"{len(ids)} tokens in {rows} rows of the model"], odd


def _rows(key: str, directory: Path, overrides: Mapping[str, Any]) -> tuple[int | None, bool]:
    """The tokens that a model tells apart (None if its config does not say), and whether its config
    has a part for texts.
    """
    text: Any = text_config(directory, overrides)
    body = overridden(model_body(key, directory), overrides)
    nested = body.get("text_config")
    numbers = [
        said(text, "vocab_size"),
        body.get("vocab_size"),
        nested.get("vocab_size") if isinstance(nested, dict) else None,
    ]
    rows = next((number for number in numbers if type(number) is int and number > 0), None)
    return rows, isinstance(nested, dict)
