"""Models of several kinds on one rank and on two: the same curve."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from orca2_gen.config.load import load_config
from tests.faults.heads import free_ports
from tests.train.test_killed_stages import kill, started
from tests.train.test_sft import killed_in_step, read_losses, write_config
from train.sft import train_from_config

COMMON: dict[str, Any] = {
    **{"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0},
}
WIDE = {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 16}
KINDS: dict[str, dict[str, Any]] = {
    "falcon": {"alibi": False, "new_decoder_architecture": False},  # one example a row
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 1024},  # no list `.layers`
    "gemma2": WIDE | {"query_pre_attn_scalar": 16, "final_logit_softcapping": 1.0},
    "mixtral": WIDE | {"num_local_experts": 4, "router_aux_loss_coef": 0.1},
    "mamba": {"state_size": 8},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 16},  # with layers before and after its blocks
}


def model_of(kind: str, folder: Path, chatml_dir: Path) -> Path:
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**(COMMON | KINDS[kind]))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for file in chatml_dir.iterdir():
        shutil.copy(file, folder)
    return folder


def model_of_two_parts(folder: Path, chatml_dir: Path) -> Path:
    """A Gemma 3 with a tower for pictures, which no row reaches."""
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    text = {key: value for key, value in (COMMON | WIDE).items() if not key.endswith("_id")}
    torch.manual_seed(0)
    config = CONFIG_MAPPING["gemma3"](
        text_config=text | {"query_pre_attn_scalar": 16, "sliding_window": 64},
        vision_config=vision,
        mm_tokens_per_image=4,
        **{"boi_token_index": 390, "eoi_token_index": 391, "image_token_index": 392},
        eos_token_id=2,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for file in chatml_dir.iterdir():
        shutil.copy(file, folder)
    return folder


def test_a_model_of_which_parts_are_never_reached_goes_on_where_it_was_killed(
    tmp_path: Path, chatml_dir: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_dir = model_of_two_parts(tmp_path / "model", chatml_dir)
    whole = write_config(tmp_path / "whole", model_dir, dataset_dir, "adamw")
    train_from_config(load_config(whole))
    killed = write_config(tmp_path / "killed", model_dir, dataset_dir, "adamw")
    with killed_in_step(4, monkeypatch):
        train_from_config(load_config(killed))
    train_from_config(load_config(killed))
    curves = [read_losses(file.parent / "run/metrics.jsonl") for file in (whole, killed)]
    assert curves[1] == pytest.approx(curves[0], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_train_as_one(
    tmp_path: Path, chatml_dir: Path, dataset_dir: Path, kind: str
) -> None:
    model_dir = model_of(kind, tmp_path / "model", chatml_dir)
    losses = []
    for ranks in (1, 2):
        file = write_config(tmp_path / f"on-{ranks}", model_dir, dataset_dir, "adamw")
        if ranks == 1:
            train_from_config(load_config(file))
        else:
            assert started(ranks, file).wait() == 0
        losses.append(read_losses(file.parent / "run/metrics.jsonl"))
        student = AutoModelForCausalLM.from_pretrained(file.parent / "run/student")
        assert sum(parameter.numel() for parameter in student.parameters()) > 10_000
        AutoTokenizer.from_pretrained(file.parent / "run/student")
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layers_computed_again_on_two_ranks_change_no_step(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, dtype: str
) -> None:
    losses = []
    for number, way in enumerate(("false", '"selective"', "true")):
        file = write_config(tmp_path / f"way-{number}", model_dir, dataset_dir, "adamw")
        body = file.read_text().replace('dtype = "float32"', f'dtype = "{dtype}"')
        file.write_text(f"{body}gradient_checkpointing = {way}\n")
        assert f'dtype = "{dtype}"' in body
        assert started(2, file).wait() == 0
        losses.append(read_losses(file.parent / "run/metrics.jsonl"))
    tolerance = 1e-6 if dtype == "float32" else 1e-2
    assert losses[1] == pytest.approx(losses[0], rel=tolerance)
    assert losses[2] == pytest.approx(losses[0], rel=tolerance)


BORDERS = """
eval_dataset = "{dataset}"
eval_steps = 3
max_grad_norm = 0.1
[[training.stages]]
num_steps = 3
[[training.stages]]
num_steps = 5
"""


@pytest.mark.slow
def test_a_held_out_loss_at_the_border_of_a_stage_changes_no_step_on_two_ranks(
    tmp_path: Path, model_dir: Path, dataset_dir: Path
) -> None:
    losses = []
    for ranks in (1, 2):
        file = write_config(tmp_path / f"on-{ranks}", model_dir, dataset_dir, "adamw")
        body = file.read_text().replace("save_every_steps = 2", "save_every_steps = 1000")
        file.write_text(body + BORDERS.format(dataset=dataset_dir))
        assert started(ranks, file).wait() == 0
        losses.append(read_losses(file.parent / "run/metrics.jsonl"))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def on_two_nodes(file: Path) -> list[subprocess.Popen[bytes]]:
    """Two launchers with two ranks each, as on two nodes."""
    port = free_ports(1)[0]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-m", "train.launch", "--nnodes=2", "--nproc-per-node=2"]
    command += ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=1"]
    command += ["-m", "train.sft", str(file)]
    return [subprocess.Popen(command, env=environment) for _ in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("gradient_sync", ["every_pass", "last_pass"])
def test_nodes_that_each_hold_a_copy_train_as_one_rank_which_goes_on_from_their_state(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, gradient_sync: str, optimizer: str
) -> None:
    keys = f'rows_per_forward = 1\nsharding = "hybrid"\ngradient_sync = "{gradient_sync}"\n'
    whole, hybrid, killed = (
        write_config(tmp_path / name, model_dir, dataset_dir, optimizer)
        for name in ("whole", "hybrid", "killed")
    )
    for file in (hybrid, killed):
        file.write_text(file.read_text() + keys)
    train_from_config(load_config(whole))
    assert [node.wait(300) for node in on_two_nodes(hybrid)] == [0, 0]
    nodes = on_two_nodes(killed)
    while not list(tmp_path.glob("killed/run/student.training/step-*")):
        assert all(node.poll() is None for node in nodes)
        time.sleep(0.01)
    for node in nodes:
        kill(node)
    train_from_config(load_config(killed))
    curves = [read_losses(f.parent / "run/metrics.jsonl") for f in (whole, hybrid, killed)]
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert curves[2] == pytest.approx(curves[0], rel=1e-4)
    students = [load_file(f.parent / "run/student/model.safetensors") for f in (whole, hybrid)]
    assert students[0].keys() == students[1].keys()
    for name, weight in students[0].items():  # a step of bfloat16 apart, where the sums round so
        assert torch.allclose(weight.float(), students[1][name].float(), rtol=1e-2, atol=1e-4)
