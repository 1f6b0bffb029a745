"""Can a model be trained as a config says? Asked of its files alone; no weight is read.

The model is built on torch's meta device, where tensors have shapes and no values, so that one of
any size takes a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.modeling_outputs import MoeModelOutputWithPast
from transformers.utils import logging

from orca2_gen.preflight.headers import Tensor
from orca2_gen.preflight.model_config import model_body, said
from orca2_gen.preflight.weights import INDEX, SINGLE, Weights, quantity, read_weights
from train.loss import LabelledLoss
from train.model import check_examples_fit, check_weight_files, model_config, told

_BYTES = {"adamw": 16, "muon": 12}
"""Bytes of weight, gradient and optimizer state, all float32, for one parameter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingQuestion:
    """The settings that decide whether a model can be trained."""

    key: str
    """Key in the config that names the model."""
    model_dir: Path
    seq_len: int
    longest: int
    """Tokens that an example may have."""
    optimizer: str
    gradient_checkpointing: bool
    num_ranks: int | None = None
    """Processes that will train; None if that is not known yet."""


def trainable_lines(asked: TrainingQuestion) -> tuple[list[str], list[str]]:
    """What training a model takes, and what of it is odd, in lines for people.

    Raises:
        ValueError: it cannot be trained so; one line that names key, directory and remedy.
    """
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # what matters of its reports is our own line
    try:
        weights = read_weights(asked.key, asked.model_dir)
        return _lines(asked, weights)
    except ValueError as error:
        reason = str(error).removeprefix(f"{asked.key}: ")
        named = reason if str(asked.model_dir) in reason else f"{asked.model_dir}: {reason}"
        raise ValueError(f"{asked.key}: {named}") from error
    finally:
        logging.set_verbosity(before)


def _lines(asked: TrainingQuestion, weights: Weights) -> tuple[list[str], list[str]]:
    model_body(asked.key, asked.model_dir)
    _check_files(asked.model_dir)
    with told(asked.model_dir):
        config = model_config(asked.model_dir)
        kind = str(config.model_type)
        _check_config(config, kind)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                config, dtype=torch.float32, attn_implementation="sdpa", trust_remote_code=False
            )
    check_examples_fit(asked.model_dir, longest=0, largest_id=0)
    loss = LabelledLoss(model)
    loss.check_parts()
    _check_tensors(asked.model_dir, model, weights.tensors)
    if asked.gradient_checkpointing and not model.supports_gradient_checkpointing:
        raise ValueError(
            f"{type(model).__name__} supports no gradient checkpointing; set "
            "training.gradient_checkpointing = false"
        )
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    odd = _doubts(asked, model, config)
    if not _head_is_known(loss):
        odd.append("whether its logits are scaled or capped is only known when training starts")
    size = quantity(num_parameters * _BYTES[asked.optimizer], "GB", "MB")
    facts = [
        f"{type(model).__name__} can be trained: {quantity(num_parameters, 'billion', 'million')} "
        f"parameters, {size} for weights, gradients and optimizer state over all processes"
    ]
    if asked.longest > asked.seq_len:
        facts.append(
            f"an example may have {asked.longest} tokens; training refuses those longer than "
            f"training.seq_len, {asked.seq_len}"
        )
    return facts, odd


def _check_files(model_dir: Path) -> None:
    """Checks that transformers finds the weights."""
    with told(model_dir):
        check_weight_files(model_dir)
        named = getattr(model_config(model_dir), "transformers_weights", None)
    if named is None and not any((model_dir / name).is_file() for name in (SINGLE, INDEX)):
        raise ValueError(
            f"{model_dir} has neither {SINGLE} nor {INDEX}, and training reads no others; save the "
            "model again with save_pretrained"
        )


def _check_config(config: Any, kind: str) -> None:
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError("its weights are quantized, and training needs them whole")
    if config.get_text_config() is not config and not hasattr(config, "vocab_size"):
        raise ValueError(f"{kind} has parts besides the text model, and training reads that alone")


def _check_tensors(model_dir: Path, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Checks names and shapes of the weights against the model that the config describes.

    Raises:
        ValueError: a weight is absent or has another shape.
    """
    prefix = f"{model.base_model_prefix}."
    places: dict[int, list[str]] = {}
    expected = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in expected.items():
        places.setdefault(id(parameter), []).extend([name, name.removeprefix(prefix)])
    for name, parameter in expected.items():
        held = tensors.get(name)
        if held is not None and held.shape != tuple(parameter.shape):
            raise ValueError(
                f"{model_dir} holds {name} with shape {held.shape}, and its config.json describes "
                f"{tuple(parameter.shape)}; copy the model again"
            )
    known = {name for names in places.values() for name in names}
    # Names that only the files have may be old ones that transformers maps to several new ones.
    if all(name in known or name.endswith(("inv_freq", ".bias")) for name in tensors):
        absent = [names[0] for names in places.values() if not any(n in tensors for n in names)]
        if absent:
            raise ValueError(
                f"{model_dir} lacks {len(absent)} of the weights that its config.json describes, "
                f"for example {absent[0]}; copy the model again"
            )


def _doubts(asked: TrainingQuestion, model: Any, config: Any) -> list[str]:
    odd = []
    reach = min(asked.longest, asked.seq_len)
    if reach > config.max_position_embeddings:
        odd.append(
            f"an example may have {reach} tokens, and training refuses those longer than the "
            f"model's {config.max_position_embeddings} positions (max_position_embeddings)"
        )
    if not hasattr(model.base_model, "layers"):
        if (asked.num_ranks or 1) > 1:
            raise ValueError(
                f"{type(model).__name__} has no base_model.layers to share among "
                f"{asked.num_ranks} processes; train it in one (--nproc-per-node 1)"
            )
        odd.append("it trains in one process only, since it has no base_model.layers")
    kinds = set(said(config, "layer_types") or ())
    other = sorted(k for k in kinds if not k.endswith("attention") or k == "linear_attention")
    if getattr(model, "_is_stateful", False) or other:
        named = f" ({', '.join(other)})" if other else ""
        odd.append(
            f"some of its layers keep a state{named}, so a packed example sees those before it"
        )
    if any(said(config, name) for name in _EXPERTS):
        odd.append("its experts are trained without a loss that balances them")
    return odd


_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


class _Layers(nn.Module):  # type: ignore[misc]
    """Stands for a model's layers: hidden states so large that a scaled or capped logit shows."""

    def __init__(self, layers: nn.Module, hidden_size: int, num_tokens: int) -> None:
        super().__init__()
        self.real = [layers]  # in a list, so that its parameters are not ours
        generator = torch.Generator().manual_seed(0)
        self.hidden = 30.0 * torch.randn(1, num_tokens, hidden_size, generator=generator)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["real"][0], name)

    def forward(self, *_: Any, **__: Any) -> _Output:
        return _Output(last_hidden_state=self.hidden)


@dataclass
class _Output(MoeModelOutputWithPast):  # type: ignore[misc]
    """An output of layers of any kind: what is not there is None."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def _head_is_known(loss: LabelledLoss) -> bool:
    """Whether the logits are head times hidden states; False if only real weights can tell.

    Raises:
        ValueError: they are not.
    """
    model: Any = loss.model
    if not isinstance(model.lm_head, nn.Linear):
        return False
    hidden_size = model.lm_head.in_features
    head = nn.Linear(hidden_size, 16, bias=model.lm_head.bias is not None)
    try:
        layers = _Layers(model.base_model, hidden_size, min(8, model.config.vocab_size))
        setattr(model, model.base_model_prefix, layers)
        model.lm_head = head
        logits = model(input_ids=torch.zeros(1, 1, dtype=torch.long), use_cache=False).logits
    except Exception:  # the model's own code, which may ask its layers for more
        return False
    if logits.is_meta:  # it went around the layers that we put there
        return False
    loss.check_head()
    return True
