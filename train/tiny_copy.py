"""A model's config -> a tiny random model with layers of every kind that the config has.

It answers what depends on an architecture's code and not on its weights: whether packed examples
see each other, what is done to logits. Weights are drawn larger than a model begins with, so that
what one token does to another is no matter of rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

MOST_PARAMETERS = 250_000_000
"""Parameters of a copy: 1 GB. Most have a hundredth of that."""
MOST_LAYERS = 16
"""The longest period of kinds that a published config has is 8 (Jamba)."""
VOCABULARY = 512
WIDTH = 64
"""Hidden size that a copy has at least, unless the model has less."""

_WIDTHS = frozenset(
    [
        *("hidden_size", "n_embd", "d_model", "embedding_size", "word_embed_proj_dim", "emb_dim"),
        *("dim", "hidden_dim", "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
        *("d_ff", "decoder_ffn_dim", "encoder_ffn_dim", "moe_intermediate_size"),
        *("shared_expert_intermediate_size", "shared_intermediate_size", "dense_ffn_hidden_size"),
        *("expert_ffn_hidden_size", "moe_shared_expert_intermediate_size"),
        *("intermediate_size_mlp", "block_ff_dim", "lru_width", "attention_hidden_size"),
        *("linear_value_dim", "mamba_d_ssm", "q_lora_rank", "kv_lora_rank"),
        *("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads"),
        *("num_kv_heads", "kv_n_heads", "linear_num_key_heads", "linear_num_value_heads"),
        *("mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "decoder_attention_heads"),
        *("encoder_attention_heads", "num_global_key_value_heads", "swa_num_attention_heads"),
        *("swa_num_key_value_heads", "index_n_heads", "hidden_size_per_layer_input"),
        *("ssm_intermediate_size",),
    ]
)
"""Keys that a copy has fewer of, all by one factor, so that a head keeps its size."""
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_VOCABULARIES = frozenset(
    ["vocab_size", "padded_vocab_size", "vocab_size_per_layer_input", "text_vocab_size"]
)
_LAYERS = frozenset(
    ["num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"]
)
_EXPERTS = frozenset(
    ["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_total_experts"]
)
_REACHES = frozenset(
    [
        *("sliding_window", "attention_chunk_size", "attention_window_size", "window_size"),
        *("local_attention", "sliding_window_size", "index_topk", "attn_window_size"),
    ]
)
"""Keys of what a token can see, cut to less than a probe's example has, so that it matters."""
REACH = 4
_CHUNKS = frozenset(["chunk_size", "mamba_chunk_size"])
"""Keys of how many tokens a scan takes at a time, which are padded to so many and change no result;
without a GPU's kernels that takes a minute."""
CHUNK = 8


def tiny_copy(
    config: Any, num_layers: int, attn_implementation: str, *, row_tokens: int | None = None
) -> Any:
    """A random model of the config's kind, as small as its code accepts.

    Args:
        config: a model's config, as transformers reads it; it stays as it is.
        num_layers: layers from the first on that it has to have; see `layers_of_every_kind`.
        attn_implementation: as `from_config` takes it.
        row_tokens: tokens of a row in training; what reaches as far matters in none and is not
            cut. None cuts all.

    Raises:
        ValueError: nothing smaller than MOST_PARAMETERS can be built.
    """
    last: Exception | None = None
    for factor in _factors(config):
        try:
            shrunk = _shrunk(config, factor, num_layers, row_tokens)
            with torch.device("meta"):
                size = _built(shrunk, attn_implementation).num_parameters()
            if size > MOST_PARAMETERS:
                break  # the next are larger
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = _built(shrunk, attn_implementation)
                _draw(model)
            ids = torch.arange(8).unsqueeze(0) % VOCABULARY
            with torch.no_grad():
                logits = model.eval()(input_ids=ids, use_cache=False).logits
            if not logits.isfinite().all():
                raise ValueError("its logits are not finite")
            return model
        except Exception as error:  # sizes that do not fit each other, in the model's own code
            last = error
    reason = " ".join(str(last).split())[:200] if last else "all are too large"
    raise ValueError(f"no small copy of it can be built ({reason})")


def layers_of_every_kind(model: Any, config: Any) -> int:
    """The number of a model's first layers among which is each kind that it has.

    Args:
        model: the whole model, on the meta device or any other.
        config: its config.
    """
    text = config.get_text_config()
    kinds: list[list[object]] = []
    if layers := stacked_layers(model.get_decoder()):
        kinds.append([_kind(layer) for layer in layers])
    total = len(kinds[0]) if kinds else next(iter(_counts(text)), 1)
    kinds += [v for v in vars(text).values() if isinstance(v, list) and len(v) == total]
    firsts = [max(_first_places(each), default=0) + 1 for each in kinds]
    return min(max([2, *firsts]), total, MOST_LAYERS)


def cut_layers(config: Any, num_layers: int) -> Any:
    """A config, which is changed, with its first layers alone."""
    text = config.get_text_config()
    for part in {id(config): config, id(text): text}.values():
        total = next(iter(_counts(part)), -1)
        for key, value in list(vars(part).items()):
            if isinstance(value, list) and len(value) == total:
                setattr(part, key, value[:num_layers])
            elif key in _LAYERS and isinstance(value, int):
                setattr(part, key, min(value, num_layers))
    return config


def stacked_layers(model: nn.Module) -> list[nn.Module]:
    """The modules of the longest list in a model that lies in no other list; none without one."""
    lists: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        is_inner = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, nn.ModuleList) and not is_inner:
            lists[name] = module
    return list(max(lists.values(), key=len, default=()))


def _counts(config: Any) -> Iterator[int]:
    for key in sorted(_LAYERS):
        value = getattr(config, key, None)
        if isinstance(value, int):
            yield value


def _kind(layer: nn.Module) -> object:
    """What tells a layer from one of another kind: its parameters, and what its parts are set to.

    Layers that read a window only have the parameters of the others.
    """
    shapes = tuple((name, tuple(p.shape)) for name, p in layer.named_parameters())
    settings = tuple(
        (name, key, value)
        for name, module in layer.named_modules()
        for key, value in sorted(vars(module).items())
        if isinstance(value, (str, bool)) or key == "sliding_window"
    )
    return shapes, repr(settings)


def _first_places(kinds: list[object]) -> Iterator[int]:
    seen: list[object] = []
    for place, kind in enumerate(kinds):
        if kind not in seen:
            seen.append(kind)
            yield place


def _factors(config: Any) -> Iterator[int]:
    """Divisors of the number of heads, from the one that leaves about WIDTH down to 1."""
    text = config.get_text_config()
    sizes = [getattr(text, key, None) for key in ("hidden_size", "d_model", "n_embd", "dim")]
    width = next((size for size in sizes if isinstance(size, int)), WIDTH)
    heads = next((h for key in _HEADS if isinstance(h := getattr(text, key, None), int)), width)
    divisors = [d for d in range(heads, 1, -1) if heads % d == 0 and width % d == 0]
    yield from (divisor for divisor in divisors if width // divisor >= WIDTH)
    yield 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scale:
    """How much smaller a copy is."""

    factor: int
    num_layers: int
    row_tokens: int | None
    num_experts: int

    def of(self, key: str, value: int) -> int:
        """The value of a key in the copy."""
        if key in _WIDTHS:
            return max(1, value // self.factor)
        if key in _VOCABULARIES:
            return min(value, VOCABULARY)
        if key in _LAYERS:
            return min(value, self.num_layers)
        if key in _REACHES:
            is_cut = self.row_tokens is None or value < self.row_tokens
            return min(value, REACH) if is_cut else value
        if key in _CHUNKS:
            return min(value, CHUNK)
        if key in _EXPERTS:
            return min(value, self.num_experts)
        if key.endswith(("token_id", "token_index")):
            return min(value, VOCABULARY - 1)
        return value


def _shrunk(config: Any, factor: int, num_layers: int, row_tokens: int | None) -> Any:
    small = copy.deepcopy(config)
    text = small.get_text_config()
    for part in {id(small): small, id(text): text}.values():
        scale = _Scale(
            factor=factor,
            num_layers=num_layers,
            row_tokens=row_tokens,
            num_experts=2 * _experts_per_token(part),
        )
        total = next(iter(_counts(part)), -1)
        for key, value in list(vars(part).items()):
            if isinstance(value, list) and len(value) == total:
                setattr(part, key, value[:num_layers])
            elif isinstance(value, int) and not isinstance(value, bool):
                setattr(part, key, scale.of(key, value))
            elif isinstance(value, dict):  # some keep a kind of layer's sizes in a table
                for name, inner in value.items():
                    if isinstance(inner, int) and not isinstance(inner, bool):
                        value[name] = scale.of(name, inner)
        if isinstance(ends := getattr(part, "eos_token_id", None), list):
            part.eos_token_id = [min(end, VOCABULARY - 1) for end in ends]
    return small


def _experts_per_token(config: Any) -> int:
    names = ("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts", "num_selected_experts")
    found = [getattr(config, name, None) for name in names]
    return max([4, *(each for each in found if isinstance(each, int))])


def _built(config: Any, attn_implementation: str) -> Any:
    return AutoModelForCausalLM.from_config(
        config,
        dtype=torch.float32,
        attn_implementation=attn_implementation,
        trust_remote_code=False,
    )


def _draw(model: Any) -> None:
    """Draws matrices so that a layer changes its input by about its own size."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.is_floating_point():
                continue
            if id(parameter) in embeddings:
                parameter.normal_(0.0, 1.0)
            elif parameter.ndim >= 2:
                parameter.normal_(0.0, parameter.shape[-1] ** -0.5)
            elif not parameter.any():
                parameter.normal_(0.0, 0.1)  # biases that begin as zeros
