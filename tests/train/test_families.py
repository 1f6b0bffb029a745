"""Every causal language model of transformers, tiny and random, against examples one by one.

python -m tests.train.test_families        writes the table of docs/training.md anew
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from train.architecture import attention_of
from train.batches import build_batch, encoded
from train.isolation import settled, unreached_weights
from train.layouts import Layout
from train.loss import LabelledLoss
from train.model import freeze_unreached
from train.probe_examples import plain_ids
from train.probes import LoadedModel, probed
from train.tiny_copy import layers_of_every_kind, tiny_copy

DOCS = Path(__file__).parents[2] / "docs" / "training.md"
ROWS = {"packed": "packed", "apart": "one example each", "alone": "one example in each pass"}
LENGTHS = (11, 3, 31, 6, 2, 18)
"""Others than those of the probe."""
MOST_DIFFERENCE = 1e-3


# Values of published models, where the config's own describe none or leave out a kind of layer.
VALUES: dict[str, dict[str, Any]] = {
    "lfm2": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 8},
    "ministral": {"head_dim": 128},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
}


def tiny(kind: str) -> Any:
    """A tiny copy of a kind's usual config; raises whatever its code raises."""
    config = CONFIG_MAPPING[kind](**VALUES.get(kind, {}))
    attention = attention_of(config)
    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return tiny_copy(config, layers_of_every_kind(whole, config), attention)


def outcome(kind: str) -> tuple[str, str]:
    """The rows in which a kind is trained, "refused" or "not tried", and the reason."""
    try:
        model = tiny(kind)
    except Exception as error:  # of a config whose usual values describe no model
        return "not tried", " ".join(str(error).split())[:80]
    try:
        loaded = probed(model)
        isolation = settled(loaded.loss, loaded.isolation)
        loaded = replace(loaded, isolation=isolation)
    except ValueError as error:
        return "refused", str(error)
    freeze_unreached(model, unreached_weights(loaded.loss))
    is_trained = {name: p.requires_grad for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    for layout in (isolation.layout, *(["apart"] if isolation.may_part else [])):
        difference = difference_to_one_by_one(loaded, layout)
        assert difference <= MOST_DIFFERENCE, f"{kind} {layout}: gradients off by {difference:.2g}"
    frozen = [name for name in reached(loaded) if not is_trained[name]]
    assert not frozen, f"{kind}: {frozen[0]} gets a gradient and is not trained"
    return ROWS[loaded.isolation.layout], ""


def difference_to_one_by_one(loaded: LoadedModel, layout: Layout) -> float:
    """How far the gradients of a batch are from those of transformers' own loss of each example."""
    model = loaded.loss.model.eval()
    ids = plain_ids(model)
    ids = (ids * (1 + sum(LENGTHS) // len(ids)))[: sum(LENGTHS)]
    examples, start = [], 0
    for length in LENGTHS:
        examples.append(encoded(ids[start : start + length], 1))
        start += length
    rows = [examples[:3], examples[3:]]
    loss = LabelledLoss(model, head_is_matrix=loaded.loss.head_is_matrix)
    for each in build_batch(rows, 64, layout=layout).passes:
        loss(each.input_ids_BT, each.labels_BT, each.position_ids_BT).backward()
    ours = gradients(model)
    for example in examples:
        input_ids_BT = torch.from_numpy(example.input_ids).unsqueeze(0)
        logits_TV = model(input_ids=input_ids_BT, use_cache=False).logits[0, :-1]
        torch.nn.functional.cross_entropy(
            logits_TV.float(), input_ids_BT[0, 1:], reduction="sum"
        ).backward()
    theirs = gradients(model)
    return float((ours - theirs).norm() / theirs.norm())


def reached(loaded: LoadedModel) -> list[str]:
    """The names of the weights that get a gradient from transformers' own loss."""
    model = loaded.loss.model
    input_ids_BT = torch.tensor([plain_ids(model)])
    logits_TV = model(input_ids=input_ids_BT, use_cache=False).logits[0, :-1]
    torch.nn.functional.cross_entropy(logits_TV.float(), input_ids_BT[0, 1:]).backward()
    found = [name for name, p in model.named_parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    return found


def gradients(model: Any) -> torch.Tensor:
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    return torch.cat([gradient.flatten() for gradient in found])


def families_table(outcomes: dict[str, tuple[str, str]]) -> str:
    """The table of docs/training.md: how many of each, and which."""
    lines = ["| rows | families |", "|---|---|"]
    for rows in (*ROWS.values(), "refused", "not tried"):
        kinds = [f"`{kind}`" for kind, (found, _) in sorted(outcomes.items()) if found == rows]
        if kinds:
            lines.append(f"| {rows} ({len(kinds)}) | {', '.join(kinds)} |")
    return "\n".join(lines)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3_text", "modernbert-decoder", "mixtral"])
def test_a_family_is_trained_right_in_every_weight_that_tokens_reach(kind: str) -> None:
    assert outcome(kind)[0] in ROWS.values()


@pytest.mark.slow
def test_no_family_is_silently_wrong_and_the_table_in_the_docs_is_what_was_found() -> None:
    outcomes = {kind: outcome(kind) for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    assert sum(found in ROWS.values() for found, _ in outcomes.values()) >= 60
    assert families_table(outcomes) in DOCS.read_text(encoding="utf-8")


def main() -> None:
    """Writes the table."""
    transformers.utils.logging.set_verbosity_error()
    outcomes = {}
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        outcomes[kind] = outcome(kind)
        print(kind, *outcomes[kind], file=sys.stderr, flush=True)
    body = DOCS.read_text(encoding="utf-8")
    table = re.compile(r"^\| rows \| families \|\n(?:\|.*\n?)+", re.MULTILINE)
    body = table.sub(lambda _: families_table(outcomes) + "\n", body)
    DOCS.write_text(body.replace("FAMILIES_TABLE", families_table(outcomes)), encoding="utf-8")


if __name__ == "__main__":
    main()
