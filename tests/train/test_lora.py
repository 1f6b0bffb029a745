"""Shapes: B rows, T tokens per row, I inputs of a layer, O outputs, R rank."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.pytorch_utils import Conv1D

from orca2_gen.config.training import TrainingConfig
from tests.train.test_families import tiny as any_tiny
from tests.train.test_killed_stages import kill, started
from tests.train.test_ranks import COMMON, KINDS, WIDE, model_of
from tests.train.test_sft import PLAN, killed_in_step, read_losses, run_training, write_config
from train.batches import Encoded, build_batch
from train.fit import fit
from train.flops import training_flops
from train.isolation import kind_of
from train.lora import Lora, adaptable, add_lora, merge_lora, num_lora_parameters, product_kinds
from train.loss import LabelledLoss
from train.memory import fewest_ranks, memory_need, sizes_of, tightness
from train.model import load_sharded
from train.optimizers import Schedule, build_optimizers
from train.plan import training_plan
from train.probe_examples import one_row, probe_examples
from train.probes import probed
from train.trainable import TrainingQuestion, trainable_lines

LORA = Lora(rank=3, alpha=7, seed=1)
LORA_PLAN = replace(PLAN, lora_rank=4, lora_alpha=8, learning_rate=3e-2)
KEYS = "lora_rank = 4\nlora_alpha = 8\n"
ASKED = TrainingQuestion(
    key="training.model",
    model_dir=Path("."),
    seq_len=64,
    longest=64,
    optimizer="adamw",
    gradient_checkpointing=False,
)


def tiny(kind: str) -> Any:
    sizes = WIDE if kind in ("llama", "qwen3", "jamba") else {}
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**(COMMON | sizes | KINDS.get(kind, {})))
    return AutoModelForCausalLM.from_config(config).eval()


def with_lora(model: Any, **changes: Any) -> Any:
    add_lora(model, LORA, **({"kinds": product_kinds(model), "dtype": torch.float32} | changes))
    return model


def perturbed(model: Any) -> Any:
    """The model with the second matrix of each layer away from 0."""
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.1)
    return model


def gradients_of(model: nn.Module, examples: list[Encoded]) -> tuple[float, dict[str, Any]]:
    """The loss of examples, and the gradient of each parameter that has one."""
    loss = LabelledLoss(model)
    summed = torch.zeros(())
    for row in build_batch([examples], 1024, layout="alone").passes:
        summed = summed + loss(row.input_ids_BT, row.labels_BT, row.position_ids_BT)
    summed.backward()
    named = model.named_parameters()
    return summed.item(), {name: p.grad for name, p in named if p.grad is not None}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "falcon", "mixtral", "mamba", "jamba"])
def test_training_begins_with_the_loss_of_the_model_and_the_gradient_of_its_weights(
    kind: str, examples: list[Encoded]
) -> None:
    """With A as drawn and B = 0, the product's gradient leads to B alone: it is G A^T, scaled, for
    the gradient G of the weights (arXiv 2106.09685, equation 3).
    """
    plain = tiny(kind)
    layers = dict(adaptable(plain))
    loss, theirs = gradients_of(plain, examples[:4])
    adapted = with_lora(tiny(kind))
    ours_loss, ours = gradients_of(adapted, examples[:4])
    assert ours_loss == pytest.approx(loss, rel=1e-6)
    matrices = dict(adapted.named_parameters())
    assert layers and len(ours) == 2 * len(layers)
    for name, layer in layers.items():
        weight_gradient = theirs[f"{name}.weight"]
        if isinstance(layer, Conv1D):
            weight_gradient = weight_gradient.T
        lead = matrices[f"{name}.lora_A.default.weight"]
        expected = LORA.alpha / LORA.rank * weight_gradient @ lead.T
        found = ours[f"{name}.lora_B.default.weight"]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        assert not ours[f"{name}.lora_A.default.weight"].any()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "falcon", "mixtral", "mamba"])
def test_a_merged_model_has_the_logits_and_the_names_of_the_model_with_matrices(kind: str) -> None:
    plain = tiny(kind)
    names = list(plain.state_dict())
    input_ids_BT = torch.arange(20, 60).reshape(2, 20)
    adapted = perturbed(with_lora(tiny(kind)))
    with torch.no_grad():
        before = adapted(input_ids=input_ids_BT, use_cache=False).logits
        merge_lora(adapted)
        after = adapted(input_ids=input_ids_BT, use_cache=False).logits
        first = plain(input_ids=input_ids_BT, use_cache=False).logits
    assert list(adapted.state_dict()) == names
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert (after - first).abs().max() > 1e-3  # the matrices do something


def test_the_head_and_the_embeddings_and_towers_of_pictures_get_no_matrices() -> None:
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    text = {key: value for key, value in (COMMON | WIDE).items() if not key.endswith("_id")}
    config = CONFIG_MAPPING["gemma3"](
        text_config=text | {"query_pre_attn_scalar": 16, "sliding_window": 64},
        vision_config=vision,
        mm_tokens_per_image=4,
    )
    names = adaptable(AutoModelForCausalLM.from_config(config))
    assert names and not [name for name in names if "vision" in name or "lm_head" in name]


def test_of_a_recurrent_layer_only_what_leads_into_it_gets_matrices() -> None:
    assert {name.rpartition(".")[2] for name in adaptable(tiny("mamba"))} == {"in_proj"}


SHARED: dict[str, dict[str, Any]] = {
    "zamba2": {
        "num_hidden_layers": 6,
        "layers_block_type": ["mamba", "hybrid"] * 3,
        "num_mem_blocks": 1,
        "n_mamba_heads": 4,
        "mamba_headdim": 16,
        "mamba_d_state": 8,
        "mamba_ngroups": 1,
        "adapter_rank": 4,
        "num_key_value_heads": 2,
        "attention_head_dim": 32,
        "intermediate_size": 48,
    },
}
"""A kind whose hybrid layers are distinct and have one weight."""


@pytest.mark.parametrize("kind", SHARED)
def test_layers_that_share_a_weight_get_no_matrices_and_the_merged_model_is_the_same(
    kind: str,
) -> None:
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**(COMMON | SHARED[kind]))
    model = AutoModelForCausalLM.from_config(config).eval()
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    assert len(names) > len(list(model.named_parameters())) + 1  # besides a tied head
    input_ids_BT = torch.arange(20, 60).reshape(2, 20)
    adapted = perturbed(with_lora(model))
    with torch.no_grad():
        before = adapted(input_ids=input_ids_BT, use_cache=False).logits
        merge_lora(adapted)
        after = adapted(input_ids=input_ids_BT, use_cache=False).logits
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_called_by_keyword_is_no_plain_product_and_no_error() -> None:
    model = tiny("llama")
    mlp = model.model.layers[0].mlp
    mlp.forward = lambda x: mlp.down_proj(input=mlp.gate_proj(x) * mlp.up_proj(x))
    assert "model.layers.#.mlp.gate_proj" in product_kinds(model)


class Rounding(nn.Linear):
    """A layer that multiplies with rounded weights."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(input, self.weight.sign())


def test_what_is_no_product_with_a_layers_weights_gets_no_matrices() -> None:
    model = tiny("llama")

    def around(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nn.functional.linear(inputs[0], layer.read_only.weight)

    for layer in model.model.layers:
        layer.mlp.read_only = nn.Linear(32, 32)
        layer.mlp.register_forward_pre_hook(around)
        layer.self_attn.q_proj.__class__ = Rounding
    kinds = product_kinds(model)
    others = {kind_of(name) for name in adaptable(model)} - kinds
    expected = {"self_attn.q_proj", "mlp.read_only"}
    assert others == {f"model.layers.#.{name}" for name in expected}
    with_lora(model, kinds=kinds)
    named = [name for name, p in model.named_parameters() if p.requires_grad]
    assert named and not [name for name in named if "q_proj" in name or "read_only" in name]


def test_a_model_without_such_layers_is_refused_by_training_and_by_a_plan(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="LlamaForCausalLM has no linear layer"):
        with_lora(tiny("llama"), kinds=frozenset())
    # Of the models that we know, none has no such layer but those that cannot be trained at all.
    monkeypatch.setattr("train.trainable.product_kinds", lambda model: frozenset())
    with pytest.raises(ValueError, match="LlamaForCausalLM has no linear layer"):
        trainable_lines(replace(ASKED, model_dir=model_dir, lora_rank=4))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rank=st.integers(1, 9),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    kind=st.sampled_from(["llama", "gpt2", "mixtral", "mamba"]),
)
def test_weights_gradients_and_moments_take_the_bytes_that_are_foretold(
    rank: int, dtype: str, kind: str, examples: list[Encoded]
) -> None:
    model = tiny(kind)
    sizes = sizes_of(model, rank)
    number_format = getattr(torch, dtype)
    chosen = replace(LORA, rank=rank)
    add_lora(model, chosen, kinds=product_kinds(model), dtype=number_format)
    loss = LabelledLoss(model, dtype=number_format)
    optimizers = build_optimizers(model, optimizer="adamw", learning_rate=1e-3)
    fit(
        loss,
        iter([build_batch([examples[:4]], 1024, layout="alone")]),
        optimizers,
        Schedule(learning_rate=1e-3, num_steps=1),
    )
    row = build_batch([examples[:1]], 1024).passes[0]
    loss(row.input_ids_BT, row.labels_BT, row.position_ids_BT).backward()
    weights = sum(p.nbytes for p in model.parameters())
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    moments = sum(
        value.nbytes
        for optimizer in optimizers
        for remembered in optimizer.state.values()
        for value in remembered.values()
        if value.ndim
    )
    foretold = memory_need(
        model.config,
        **sizes,
        optimizer="adamw",
        seq_len=16,
        rows_per_forward=1,
        dtype=dtype,
        gradient_checkpointing=False,
    )
    assert weights + gradients + moments == foretold.spread
    assert sizes["num_trained"] == num_lora_parameters(tiny(kind), rank)


def test_a_weight_that_stays_counts_four_operations_and_a_trained_one_six() -> None:
    plain, adapted = tiny("llama"), with_lora(tiny("llama"))
    frozen, trained = training_flops(plain), training_flops(adapted)
    num = num_lora_parameters(plain, LORA.rank)
    assert trained.per_token == pytest.approx(frozen.per_token * 4 / 6 + 6 * num)


def test_the_student_is_the_model_with_the_product_added_and_all_else_as_it_was(
    tmp_path: Path, model_dir: Path, dataset_dir: Path
) -> None:
    run_training(tmp_path, model_dir, dataset_dir, plan=LORA_PLAN)
    losses = read_losses(tmp_path / "metrics.jsonl")
    assert losses[-1] < 0.9 * losses[0]
    before = load_sharded(model_dir, dtype=torch.float32).loss.model
    names = {f"{name}.weight" for name in adaptable(before)}
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "student", dtype=torch.float32)
    assert before.state_dict().keys() == after.state_dict().keys()
    for name, weight in after.state_dict().items():
        change = weight - before.state_dict()[name].to(torch.bfloat16).float()
        assert bool(change.any()) == (name in names), name
        if name in names:  # rounding to bfloat16 aside, it has no more than that rank
            values = torch.linalg.svdvals(weight - before.state_dict()[name])
            assert values[4] < 0.05 * values[0]


def test_a_killed_training_goes_on_with_the_same_curve_from_a_state_of_what_is_trained(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(tmp_path / "whole", model_dir, dataset_dir, plan=LORA_PLAN)
    with killed_in_step(6, monkeypatch):
        run_training(
            tmp_path / "killed", model_dir, dataset_dir, plan=LORA_PLAN, save_every_steps=2
        )
    [state] = (tmp_path / "killed/student.training").glob("step-*")
    stored = {name for file in state.glob("*.safetensors") for name in load_file(file)}
    assert stored and all(".lora_A." in name or ".lora_B." in name for name in stored)
    for other in (replace(LORA_PLAN, lora_rank=5), replace(LORA_PLAN, lora_alpha=9), PLAN):
        with pytest.raises(ValueError, match="belongs to another training run"):
            run_training(tmp_path / "killed", model_dir, dataset_dir, plan=other)
    run_training(tmp_path / "killed", model_dir, dataset_dir, plan=LORA_PLAN)
    curves = [read_losses(tmp_path / name / "metrics.jsonl") for name in ("whole", "killed")]
    assert curves[1] == pytest.approx(curves[0], rel=1e-6)
    students = [tmp_path / name / "student/model.safetensors" for name in ("whole", "killed")]
    whole, killed = map(load_file, students)
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_a_plan_without_it_is_recorded_as_before_it_was_known() -> None:
    assert not [key for key in PLAN.recorded() if "lora" in key]
    assert training_plan(TrainingConfig(lora_rank=8)).recorded()["lora_alpha"] == 16


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lora_alpha": 8}, "lora_rank is not set"),
        ({"lora_rank": 8, "optimizer": "muon"}, 'set optimizer = "adamw"'),
    ],
)
def test_keys_that_do_not_go_together_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        training_plan(TrainingConfig(**keys))


def test_a_directory_with_an_adapter_is_refused_by_training_and_by_a_plan(
    tmp_path: Path, model_dir: Path
) -> None:
    copy = shutil.copytree(model_dir, tmp_path / "model")
    (copy / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    asked = replace(ASKED, model_dir=copy)
    for refuse in (lambda: load_sharded(copy, dtype=torch.float32), lambda: trainable_lines(asked)):
        with pytest.raises(ValueError, match=r"adapter .*merge_and_unload"):
            refuse()
    (copy / "config.json").unlink()  # what peft itself saves
    with pytest.raises(ValueError, match=r"adapter .*merge_and_unload"):
        load_sharded(copy, dtype=torch.float32)


def test_quantized_weights_are_refused_before_they_are_read(
    tmp_path: Path, model_dir: Path
) -> None:
    copy = shutil.copytree(model_dir, tmp_path / "model")
    body = json.loads((copy / "config.json").read_text())
    body["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (copy / "config.json").write_text(json.dumps(body))
    (copy / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="its weights are quantized"):
        load_sharded(copy, dtype=torch.float32, lora=LORA)


def test_a_missing_package_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "train.extras.importlib.util.find_spec", lambda name: None if name == "peft" else real(name)
    )
    with pytest.raises(ValueError, match=r"training.lora_rank .*pip install .orca2-gen\[lora\]"):
        run_training(tmp_path, tmp_path / "no-model", tmp_path / "no-dataset", plan=LORA_PLAN)


def test_one_process_needs_room_for_the_model_in_float32_while_it_reads() -> None:
    need = memory_need(
        tiny("llama").config,
        num_parameters=13_000_000_000,
        num_trained=100_000_000,
        optimizer="adamw",
        seq_len=16,
        rows_per_forward=1,
        dtype="bfloat16",
        gradient_checkpointing=True,
    )
    assert need.in_each(1) == 52_000_000_000 and need.in_each(2) < 15_000_000_000
    assert fewest_ranks(need, 48_000_000_000) == 2
    with pytest.raises(ValueError, match="use 2 processes or more"):
        tightness(need, 48_000_000_000, 1)
    assert tightness(need, 48_000_000_000, 2) == ""


@pytest.mark.slow
def test_no_family_is_silently_wrong() -> None:
    """The matrices reach nothing but the layers that they stand beside, and their sum is exact."""
    merged = []
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        try:
            model = any_tiny(kind)
            loaded = probed(model)
        except Exception:  # tests/train/test_families.py names those that are refused
            continue
        names, kinds = list(model.state_dict()), product_kinds(model)
        perturbed(with_lora(model, kinds=kinds))
        trained = [name for name, p in model.named_parameters() if p.requires_grad]
        beside = {kind_of(name.partition(".lora_")[0]) for name in trained}
        assert beside == kinds, kind
        loss = LabelledLoss(model, head_is_matrix=loaded.loss.head_is_matrix)
        row = one_row(probe_examples(model)[:1])
        with torch.no_grad():
            before = loss(row.input_ids_BT, row.labels_BT, row.position_ids_BT)
            merge_lora(model)
            after = loss(row.input_ids_BT, row.labels_BT, row.position_ids_BT)
        assert after.item() == pytest.approx(before.item(), rel=1e-4), kind
        assert list(model.state_dict()) == names, kind
        merged.append(kind)
    assert len(merged) >= 100


OTHERS = """eval_dataset = "{dataset}"
eval_steps = 1
gradient_checkpointing = "selective"
gradient_sync = "last_pass"
async_save = true
moments_dtype = "bfloat16"
[[training.stages]]
num_steps = 4
[[training.stages]]
num_steps = 3
optimizer_state = "reset"
"""
"""Further settings, of which none changes what two ranks train but by rounding."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "opt"])
def test_two_ranks_with_every_other_setting_write_the_student_of_one(
    tmp_path: Path, model_dir: Path, chatml_dir: Path, dataset_dir: Path, kind: str
) -> None:
    directory = model_dir
    if kind == "opt":  # it has linear layers that stand in no block, and so are FSDP's root's
        directory = model_of(kind, tmp_path / "model", chatml_dir)
    files = [
        lora_config(tmp_path / f"on-{ranks}", directory, dataset_dir, "float32") for ranks in (1, 2)
    ]
    for ranks, file in zip((1, 2), files, strict=True):
        body = file.read_text().replace("num_steps = 8\n", "")
        file.write_text(body + OTHERS.format(dataset=dataset_dir))
        assert started(ranks, file).wait() == 0
    curves = [read_losses(file.parent / "run/metrics.jsonl") for file in files]
    assert len(curves[0]) == 7 and curves[1] == pytest.approx(curves[0], rel=1e-3)
    one, two = (load_file(file.parent / "run/student/model.safetensors") for file in files)
    first = load_file(directory / "model.safetensors")
    changed = [name for name in one if not torch.equal(one[name], first[name].to(one[name].dtype))]
    assert changed
    for name in changed:
        moved = (one[name].float() - first[name].float()).norm()
        assert (two[name].float() - one[name].float()).norm() < 0.1 * moved, name


def lora_config(folder: Path, model_dir: Path, dataset_dir: Path, dtype: str) -> Path:
    file = write_config(folder, model_dir, dataset_dir, "adamw")
    body = file.read_text().replace('dtype = "float32"', f'dtype = "{dtype}"') + KEYS
    file.write_text(body.replace("learning_rate = 3e-3", "learning_rate = 3e-2"))
    return file


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2", "mixtral", "mamba"])
def test_two_ranks_train_as_one_and_write_the_same_student(
    tmp_path: Path, model_dir: Path, chatml_dir: Path, dataset_dir: Path, kind: str
) -> None:
    directory = model_dir
    if kind != "llama":
        directory = model_of(kind, tmp_path / "model", chatml_dir)
    files = [
        lora_config(tmp_path / f"on-{ranks}", directory, dataset_dir, "float32") for ranks in (1, 2)
    ]
    for ranks, file in zip((1, 2), files, strict=True):
        assert started(ranks, file).wait() == 0
    curves = [read_losses(file.parent / "run/metrics.jsonl") for file in files]
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)
    one, two = (load_file(file.parent / "run/student/model.safetensors") for file in files)
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=2e-2, atol=1e-3)


@pytest.mark.slow
def test_one_rank_goes_on_where_two_were_killed_in_half_the_size(
    tmp_path: Path, model_dir: Path, dataset_dir: Path
) -> None:
    whole, killed = (
        lora_config(tmp_path / name, model_dir, dataset_dir, "bfloat16")
        for name in ("whole", "killed")
    )
    assert started(2, whole).wait() == 0
    launched = started(2, killed)
    while not list(tmp_path.glob("killed/run/student.training/step-*")):
        assert launched.poll() is None
    kill(launched)
    assert started(1, killed).wait() == 0
    curves = [read_losses(file.parent / "run/metrics.jsonl") for file in (whole, killed)]
    assert curves[1] == pytest.approx(curves[0], rel=1e-2)
