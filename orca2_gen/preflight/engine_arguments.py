"""Do an engine's further arguments fit its model, and are the models that they name there?

vLLM finds these out when it has started, or, as with ropes, never.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orca2_gen.config.engine import VLLMEngineConfig
from orca2_gen.config.engine_arguments import SPEED, argument_models
from orca2_gen.config.secrecy import shown
from orca2_gen.preflight.model_config import hf_overrides, model_body, overridden, text_config
from orca2_gen.preflight.weights import read_weights

_EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
"""Keys in which vLLM looks for a model's number of experts."""
_VLLMS_THETA = 10_000
"""The rope_theta that vLLM takes where none is said."""
_READ: Mapping[str, str] = {
    "mistral": "consolidated*.safetensors",
    "sharded_state": "model-*-part-*.safetensors",
    "runai_streamer_sharded": "model-*-part-*.safetensors",
}
"""Load format -> the names of the files that it reads, unless it is given others."""
_ROPES = ("rope_scaling", "rope_parameters")
_DRAFT = "speculative_config.model"
_COUNTED = ("ngram", "[ngram]", "ngram_gpu", "draft_model")
"""Methods of speculative decoding with no number of tokens of their own."""
_OTHER_DRAFTS = re.compile(
    r"eagle|medusa|mlp_?speculator|speculators|mtp|nextn|n_predict|lookahead|dflash|dspark", re.I
)
"""Words in the path and config of drafts that are no language models of their own."""


def argument_lines(section: str, engine: VLLMEngineConfig) -> tuple[list[str], list[str]]:
    """What an engine's further arguments mean for a run, in lines, if they fit its models.

    Raises:
        ValueError: they do not fit; one line that names the key.
    """
    if not engine.engine_arguments:
        return [], []
    key = f"{section}.engine_arguments"
    directory, overrides = Path(engine.model), hf_overrides(engine)
    body = model_body(f"{section}.model", directory)
    text = text_config(directory)
    for name, ropes in overrides.items():
        if name in _ROPES and isinstance(ropes, dict):
            _check_ropes(f"{key}.hf_overrides.{name}", ropes, _theta(body, text))
    if engine.engine_arguments.get("enable_expert_parallel") is True:
        _check_experts(key, directory, overridden(body, overrides), text)
    for place, draft in argument_models(engine.engine_arguments):
        model_body(f"{key}.{place}", Path(draft))
        read_weights(f"{key}.{place}", Path(draft))
    _check_load_format(key, directory, engine.engine_arguments)
    _check_speculation(key, directory, engine.engine_arguments.get("speculative_config"))
    names = sorted(engine.engine_arguments)
    in_keys = ", ".join(name for name in names if name not in SPEED)
    facts = [f"engine_arguments {', '.join(names)}; in stage keys: {in_keys or 'none'}"]
    return facts, []


def _check_ropes(key: str, ropes: Mapping[str, Any], theta: float | None) -> None:
    """Checks that ropes are whole: vLLM puts them in the place of the model's, and takes 10000
    where they have no rope_theta, which spoils every answer without an error.
    """
    parts = list(ropes.values())
    is_nested = bool(parts) and all(isinstance(part, dict) for part in parts)
    needed = {"rope_type": "e.g. 'yarn'"}
    if theta not in (None, _VLLMS_THETA):
        needed["rope_theta"] = f"{theta:g}"
    for part in parts if is_nested else [ropes]:
        for name, example in needed.items():
            if name not in part:
                raise ValueError(
                    f"{key} takes the place of all that config.json says of ropes, and has no "
                    f"{name}; add it ({example})"
                )


def _theta(body: Mapping[str, Any], text: Any) -> float | None:
    """The model's own rope_theta; None if it has none."""
    tables = [body, *_tables(body), *_tables(vars(text) if text is not None else {})]
    found = [table.get("rope_theta") for table in tables]
    return next((each for each in found if isinstance(each, int | float)), None)


def _tables(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in _ROPES:
        table = config.get(name)
        if isinstance(table, dict):
            yield table
            yield from (part for part in table.values() if isinstance(part, dict))


def _check_experts(key: str, directory: Path, body: Mapping[str, Any], text: Any) -> None:
    tables = [body, *(part for part in body.values() if isinstance(part, dict))]
    tables += [vars(text)] if text is not None else []
    if not any(table.get(name) for table in tables for name in (*_EXPERTS, "block_configs")):
        raise ValueError(
            f"{key}.enable_expert_parallel is true, and {directory / 'config.json'} names no "
            "experts; remove it"
        )


def _check_load_format(key: str, directory: Path, arguments: Mapping[str, Any]) -> None:
    """Checks that the files are there which a load format reads instead of all safetensors."""
    pattern = _READ.get(str(arguments.get("load_format")))
    if pattern is None or "pattern" in str(arguments.get("model_loader_extra_config")):
        return
    if not any(directory.glob(pattern)):
        raise ValueError(
            f"{key}.load_format is {arguments['load_format']!r}, which reads {pattern}, and "
            f"{directory} holds none; remove the key"
        )


def _check_speculation(key: str, directory: Path, speculation: Any) -> None:
    if not isinstance(speculation, dict):
        return
    method, draft = _method(speculation), speculation.get("model")
    tokens = speculation.get("num_speculative_tokens")
    # Draft models of other kinds say it themselves.
    is_needed = method in _COUNTED
    if not ((type(tokens) is int and tokens >= 1) or (tokens is None and not is_needed)):
        found = "not set" if tokens is None else shown(tokens)
        raise ValueError(
            f"{key}.speculative_config.num_speculative_tokens is {found}: expected a whole number, "
            "at least 1"
        )
    if speculation.get("rejection_sample_method") == "synthetic":
        raise ValueError(
            f"{key}.speculative_config.rejection_sample_method is 'synthetic', which accepts "
            "drafted tokens by a rate and so writes other answers than the model; remove it"
        )
    is_mapped = speculation.get("use_heterogeneous_vocab") is True
    if method != "draft_model" or is_mapped or not isinstance(draft, str):
        return  # a draft of another kind may have a vocabulary of its own
    sizes = [_vocabulary(Path(each)) for each in (draft, directory)]
    if None not in sizes and sizes[0] != sizes[1]:
        raise ValueError(
            f"{key}.{_DRAFT}: {draft} has a vocabulary of {sizes[0]} tokens, and {directory} one "
            f"of {sizes[1]}; a draft must have that of its model"
        )


def _method(speculation: Mapping[str, Any]) -> Any:
    """The method of speculative decoding, as vLLM finds it where none is said; None where it may
    know better than the draft's files.
    """
    method, draft = speculation.get("method"), speculation.get("model")
    if method not in (None, "draft_model") or not isinstance(draft, str):
        return method
    if not Path(draft).is_absolute():
        return draft  # the name of a method
    body = model_body(_DRAFT, Path(draft))
    words = [draft, *body, body.get("model_type"), body.get("architectures")]
    return None if _OTHER_DRAFTS.search(" ".join(map(str, words))) else "draft_model"


def _vocabulary(directory: Path) -> int | None:
    found = getattr(text_config(directory), "vocab_size", None)
    return found if isinstance(found, int) else None
