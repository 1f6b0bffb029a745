"""Weights that one rank reads and several train and write: the same, whatever the model ties."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks.training_memory import figures
from orca2_gen.preflight.weights import read_weights
from tests.train.test_checkpoint import load
from tests.train.test_ranks import KINDS, model_of
from train.model_directory import described_model, model_config
from train.student import save_student
from train.weights import buffers_of, check_ties, give_buffers, give_memory, strays

PROGRAM = """
import sys, threading
from pathlib import Path
import torch
from train import student
from train.model import load_sharded
from train.ranks import joined_ranks
student.FILE_BYTES = int(sys.argv[3])
with joined_ranks(threading.Event()):
    loaded = load_sharded(Path(sys.argv[1]), dtype=torch.float32)
    model = loaded.loss.model
    here, there = map(Path, sys.argv[1:3])
    student.save_student(model, model_dir=here, output_dir=there, record={})
"""


def weights_in(directory: Path) -> dict[str, torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return dict(model.state_dict())


def rounded(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.to(torch.bfloat16).float() for name, tensor in weights.items()}


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("tied", [True, False])
def test_a_student_in_several_files_is_the_one_in_a_single_file(
    tmp_path: Path,
    model_dir: Path,
    untied_model_dir: Path,
    tied: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = model_dir if tied else untied_model_dir
    monkeypatch.setattr("train.student.FILE_BYTES", 1)
    out = tmp_path / "student"
    save_student(load(directory), model_dir=directory, output_dir=out, record={})
    files = sorted(path.name for path in out.glob("*.safetensors"))
    num = len(files)
    assert num > 2 and files[0] == f"model-00001-of-{num:05d}.safetensors"
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(files)
    assert ("lm_head.weight" in index["weight_map"]) is not tied
    assert_equal(weights_in(out), rounded(weights_in(directory)))
    layers = [name.split(".")[2] for name in index["weight_map"] if ".layers." in name]
    where = {
        (layer, index["weight_map"][name])
        for layer, name in zip(
            layers, (n for n in index["weight_map"] if ".layers." in n), strict=True
        )
    }
    assert len(where) == len(set(layers))  # a layer's weights lie together
    assert not list(out.glob("part-*"))
    read_weights("student.model", out)  # what plan and run ask of a model directory


def test_the_files_of_a_student_can_be_read_by_whoever_reads_its_config(
    tmp_path: Path, model_dir: Path
) -> None:
    before = os.umask(0o022)
    try:
        save_student(
            load(model_dir), model_dir=model_dir, output_dir=tmp_path / "student", record={}
        )
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "student").iterdir()}
    assert modes == {0o644}


def test_a_model_without_values_takes_buffers_and_memory_and_stays_tied(model_dir: Path) -> None:
    config = model_config(model_dir)
    shell, real = described_model(config, "sdpa"), load(model_dir)
    assert strays(shell) == []
    give_buffers(shell, buffers_of(real))
    tied: dict[int, torch.nn.Parameter] = {}
    for part in (*shell.model.layers, shell):
        give_memory(part, tied)
    assert not any(each.is_meta for each in (*shell.parameters(), *shell.buffers()))
    assert shell.lm_head.weight is shell.model.embed_tokens.weight
    for (name, own), (_, expected) in zip(shell.named_buffers(), real.named_buffers(), strict=True):
        assert torch.equal(own, expected), name


def test_layers_that_share_a_weight_are_refused_and_a_tied_head_is_not(model_dir: Path) -> None:
    model = load(model_dir)
    parts = [*reversed(model.model.layers), model]
    check_ties(parts, "Llama")
    check_ties([model.model.layers[0].mlp, *parts], "Llama")  # one inside another
    first, second = model.model.layers[:2]
    second.mlp.up_proj.weight = first.mlp.up_proj.weight
    with pytest.raises(ValueError, match="Llama ties weights of several layers"):
        check_ties(parts, "Llama")


def test_a_tensor_beside_parameters_and_buffers_is_found(model_dir: Path) -> None:
    shell = described_model(model_config(model_dir), "sdpa")
    shell.model.layers[0].hidden = {"of": [torch.empty(2, device="meta")]}
    assert strays(shell) == ["model.layers.0.hidden"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "tied", "untied"])
@pytest.mark.parametrize("file_bytes", [1, 5_000_000_000])
def test_two_ranks_write_the_model_that_one_of_them_has_read(
    tmp_path: Path,
    chatml_dir: Path,
    model_dir: Path,
    untied_model_dir: Path,
    kind: str,
    file_bytes: int,
) -> None:
    ready = {"tied": model_dir, "untied": untied_model_dir}
    directory = ready.get(kind) or model_of(kind, tmp_path / "model", chatml_dir)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "train.launch", "--standalone", "--nproc-per-node=2"]
    command += [str(program), str(directory), str(tmp_path / "student"), str(file_bytes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    subprocess.run(command, env=environment, check=True, timeout=300)
    assert_equal(weights_in(tmp_path / "student"), rounded(weights_in(directory)))


def test_peaks_are_told_over_one_copy_of_the_weights() -> None:
    state = {"state": 60, "async": 90, "state_seconds": 0.3, "async_seconds": 0.1}
    peaks = [{"load": 300, "save": 50, **state}, {"load": 110, "save": 20, **state}]
    found = figures(peaks, 100, 40)
    assert found["load_over_bf16"] == 4.1
    assert found["load_beside_shares_over_bf16"] == 2.1  # a share is 100 of 200 in float32
    assert found["save_over_largest_file"] == 1.25
    assert (found["state_stall_seconds"], found["async_stall_seconds"]) == (0.3, 0.1)
