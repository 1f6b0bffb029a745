"""A base model's directory -> what of it must change if its tokenizer grows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca2_gen.preflight.headers import Tensor
from orca2_gen.preflight.model_config import model_body, text_config
from orca2_gen.preflight.weights import INDEX, SINGLE, read_weights
from orca2_gen.run_directory.regular_files import read_regular

KEY = "MODEL"
"""The word that begins a line about the directory."""
_NUMBERS = ("F64", "F32", "F16", "BF16")
_MOST_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrained:
    """A base model as its headers and config describe it."""

    directory: Path
    config: Mapping[str, Any]
    """The object in its config.json."""
    index: Mapping[str, Any] | None
    """The object in the index of its weights; None if they are one file."""
    files: tuple[str, ...]
    """Its files of weights."""
    tensors: Mapping[str, Tensor]
    embedding: str
    """Name of the tensor with a row for each token."""
    head: tuple[str, ...]
    """Names of the tensors of the head, weight and bias, if its rows are its own."""
    same: tuple[str, ...]
    """Names of tensors that hold the embedding again, for a head that is tied to it."""

    @property
    def num_rows(self) -> int:
        return self.tensors[self.embedding].shape[0]


def read_pretrained(directory: Path) -> Pretrained:
    """The Pretrained of a directory; no weight is read.

    Raises:
        ValueError: it holds no whole model of text in safetensors, or a quantized one; one line.
    """
    if not directory.is_dir():
        raise ValueError(
            f"{KEY}: {directory} is no directory; give a model's directory on this machine, "
            "nothing is downloaded"
        )
    config = model_body(KEY, directory)
    if config.get("quantization_config") is not None:
        raise ValueError(
            f"{KEY}: the weights of {directory} are quantized, and training needs them whole; give "
            "the model before it was quantized"
        )
    tensors = read_weights(KEY, directory).tensors
    files, index = _files(directory)
    embedding, head, same = _rows(directory, tensors)
    for name in (embedding, *head, *same):
        if tensors[name].dtype not in _NUMBERS:
            raise ValueError(
                f"{KEY}: {name} in {directory} is of type {tensors[name].dtype}; expected one of "
                f"{', '.join(_NUMBERS)}: give the model before it was quantized"
            )
        if tensors[name].shape[0] != tensors[embedding].shape[0]:
            raise ValueError(
                f"{KEY}: {name} in {directory} has {tensors[name].shape[0]} rows, and {embedding} "
                f"{tensors[embedding].shape[0]}; expected as many; copy the model again"
            )
    if config.get("vocab_size") not in (None, tensors[embedding].shape[0]):
        raise ValueError(
            f"{KEY}: {directory / 'config.json'} says vocab_size {config['vocab_size']!a:.40}, and "
            f"{embedding} has {tensors[embedding].shape[0]} rows; save config and weights together"
        )
    return Pretrained(
        directory=directory,
        config=config,
        index=index,
        files=files,
        tensors=tensors,
        embedding=embedding,
        head=head,
        same=same,
    )


def _files(directory: Path) -> tuple[tuple[str, ...], Mapping[str, Any] | None]:
    """The files of weights that transformers reads, and their index, which has been checked."""
    try:
        index: dict[str, Any] = json.loads(read_regular(directory / INDEX, _MOST_BYTES))
    except FileNotFoundError:
        if (directory / SINGLE).is_file():
            return (SINGLE,), None
        raise ValueError(
            f"{KEY}: {directory} has neither {SINGLE} nor {INDEX}; save the model with "
            "save_pretrained"
        ) from None
    return tuple(sorted(set(index["weight_map"].values()))), index


def _rows(
    directory: Path, tensors: Mapping[str, Tensor]
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The names of the tensors with a row for each token: embedding, head, copies of the first.

    The model that transformers builds of the config, once more with another number of tokens, shows
    which parameters depend on it.
    """
    config = text_config(directory)
    if config is None:
        raise ValueError(
            f"{KEY}: {directory / 'config.json'} describes no model that transformers knows; "
            "expected the config of a causal language model"
        )
    model, wider = _built(directory, config, 0), _built(directory, config, 1)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    others = dict(wider.named_parameters(remove_duplicate=False))
    growing = [name for name in parameters if others[name].shape != parameters[name].shape]
    rows, output = model.get_input_embeddings().weight, model.get_output_embeddings()
    known = [rows, getattr(output, "weight", None), getattr(output, "bias", None)]
    strange = [name for name in growing if not any(parameters[name] is each for each in known)]
    if strange or output is None:
        raise ValueError(
            f"{KEY}: {type(model).__name__} of {directory} has more than an embedding and a head "
            f"that depend on its tokens ({', '.join(strange) or 'no head'}), which prepare does "
            "not resize; take another base model"
        )
    prefix = f"{model.base_model_prefix}."
    embedding: list[str] = []
    head: list[str] = []
    same: list[str] = []
    for name in growing:
        held = next((n for n in (name, name.removeprefix(prefix)) if n in tensors), None)
        is_tied = parameters[name] is rows
        if held is not None:
            is_first = is_tied and not embedding
            (embedding if is_first else same if is_tied else head).append(held)
        elif not is_tied:
            raise ValueError(f"{KEY}: {directory} lacks {name}, its head; copy the model again")
    if not embedding:
        raise ValueError(f"{KEY}: {directory} lacks its embedding; copy the model again")
    return embedding[0], tuple(head), tuple(same)


def _built(directory: Path, config: Any, more: int) -> Any:
    """The model of a config with `more` tokens, on torch's meta device: shapes without values."""
    import copy

    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    whole = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    if whole.get_text_config() is not whole:
        raise ValueError(
            f"{KEY}: {directory} has parts besides its text model, and training reads that alone; "
            "take a base model of text"
        )
    wider = copy.deepcopy(config)
    wider.vocab_size += more
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(wider, trust_remote_code=False)
    except MemoryError:
        raise
    except Exception as error:  # transformers raises anything here
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{KEY}: {directory} holds no causal language model that transformers builds "
            f"({reason}); take another base model"
        ) from error
