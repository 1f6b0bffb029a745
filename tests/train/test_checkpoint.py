from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

from orca2_gen.run_directory.lock import RunInUse
from train.checkpoint import TrainingState, load_state, remove_states
from train.loss import LabelledLoss
from train.optimizers import build_optimizers
from train.saving import save_state
from train.student import read_training_record, save_student


def load(directory: Path) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


def state_in(directory: Path, model: LlamaForCausalLM, **determinants: int) -> TrainingState:
    return TrainingState(
        directory=directory,
        module=LabelledLoss(model),
        optimizers=build_optimizers(model, optimizer="muon", learning_rate=1e-2),
        determinants=determinants,
    )


def take_a_step(state: TrainingState) -> None:
    for parameter in state.module.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    for optimizer in state.optimizers:
        optimizer.step()


def weights_of(directory: Path) -> dict[str, torch.Tensor]:
    with safe_open(directory / "model.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_a_student_holds_bfloat16_weights_config_tokenizer_and_template(
    tmp_path: Path, model_dir: Path
) -> None:
    model = load(model_dir)
    save_student(model, model_dir=model_dir, output_dir=tmp_path / "student", record={"seed": 3})
    student = tmp_path / "student"
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (student / name).read_bytes() == (model_dir / name).read_bytes()
    assert json.loads((student / "generation_config.json").read_text())["max_new_tokens"] == 33
    assert json.loads((student / "config.json").read_text())["dtype"] == "bfloat16"
    assert all(tensor.dtype == torch.bfloat16 for tensor in weights_of(student).values())
    assert not list(student.glob("*.bin")) and not list(student.glob("*.pt"))
    assert read_training_record(student) == {"seed": 3}


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_stay_tied_to_the_head_or_not(
    tmp_path: Path, model_dir: Path, untied_model_dir: Path, tied: bool
) -> None:
    directory = model_dir if tied else untied_model_dir
    save_student(load(directory), model_dir=directory, output_dir=tmp_path / "student", record={})
    assert AutoConfig.from_pretrained(tmp_path / "student").tie_word_embeddings is tied
    assert ("lm_head.weight" in weights_of(tmp_path / "student")) is not tied
    before, after = load(directory), load(tmp_path / "student")
    ids_BT = torch.arange(12).unsqueeze(0)
    torch.testing.assert_close(after(ids_BT).logits, before(ids_BT).logits, rtol=0.1, atol=0.1)


def test_a_directory_of_someone_else_is_not_overwritten(tmp_path: Path, model_dir: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/model.safetensors").write_text("mine")
    with pytest.raises(ValueError, match=r"precious holds files but no training\.json"):
        save_student(
            load(model_dir), model_dir=model_dir, output_dir=tmp_path / "precious", record={}
        )
    assert [path.name for path in (tmp_path / "precious").iterdir()] == ["model.safetensors"]


def test_a_student_of_ours_is_replaced_whole(tmp_path: Path, model_dir: Path) -> None:
    for seed in (1, 2):
        save_student(
            load(model_dir), model_dir=model_dir, output_dir=tmp_path / "s", record={"seed": seed}
        )
        (tmp_path / "s/leftover").touch()
        assert read_training_record(tmp_path / "s") == {"seed": seed}
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_killed_save_leaves_no_student(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("train.student.shutil.copyfile", killed)
    with pytest.raises(KeyboardInterrupt):
        save_student(load(model_dir), model_dir=model_dir, output_dir=tmp_path / "s", record={})
    assert not (tmp_path / "s").exists()


def test_a_state_brings_back_weights_optimizers_and_step(tmp_path: Path, model_dir: Path) -> None:
    state = state_in(tmp_path / "states", load(model_dir), seed=1)
    take_a_step(state)
    save_state(state, 1)
    take_a_step(state)
    resumed = state_in(tmp_path / "states", load(model_dir), seed=1)
    assert load_state(resumed) == 1
    take_a_step(resumed)
    for (name, expected), (_, got) in zip(
        state.module.named_parameters(), resumed.module.named_parameters(), strict=True
    ):
        assert torch.equal(expected, got), name
    assert resumed.module.model.lm_head.weight is resumed.module.model.model.embed_tokens.weight


def test_the_last_complete_state_is_used(tmp_path: Path, model_dir: Path) -> None:
    state = state_in(tmp_path / "states", load(model_dir), seed=1)
    assert load_state(state) == 0
    save_state(state, 8)
    save_state(state, 12)
    (tmp_path / "states/.step-00000016.tmp").mkdir()
    (tmp_path / "states/step-00000020").mkdir()  # nothing in it, so never finished
    assert load_state(state) == 12
    assert not (tmp_path / "states/step-00000008").exists()


@pytest.mark.parametrize("keep", [1, 2, 3, 9])
def test_the_newest_states_stay_and_each_leads_on(
    tmp_path: Path, model_dir: Path, keep: int
) -> None:
    state = dataclasses.replace(state_in(tmp_path / "states", load(model_dir)), keep=keep)
    steps = [1, 2, 30, 400, 401]
    for step in steps:
        take_a_step(state)
        save_state(state, step)
        save_state(state, step)  # again, as a signal may ask for
    kept = sorted(int(path.name.removeprefix("step-")) for path in state.directory.iterdir())
    assert kept == steps[-keep:]
    for step in reversed(kept):
        assert load_state(state) == step
        shutil.rmtree(state.directory / f"step-{step:08d}")
    assert load_state(state) == 0


def test_a_state_of_another_run_is_refused_with_the_difference(
    tmp_path: Path, model_dir: Path
) -> None:
    save_state(state_in(tmp_path / "states", load(model_dir), seed=1), 4)
    with pytest.raises(ValueError, match=r"another training run: seed: 1 -> 2; restore"):
        load_state(state_in(tmp_path / "states", load(model_dir), seed=2))


def test_states_are_gone_after_they_are_removed(tmp_path: Path, model_dir: Path) -> None:
    state = state_in(tmp_path / "states", load(model_dir))
    save_state(state, 4)
    remove_states(state)
    assert not (tmp_path / "states").exists()


@pytest.mark.slow
@pytest.mark.engine
def test_vllm_generates_from_a_student(tmp_path: Path, model_dir: Path) -> None:
    vllm = pytest.importorskip("vllm")
    save_student(load(model_dir), model_dir=model_dir, output_dir=tmp_path / "s", record={})
    engine = vllm.LLM(
        model=str(tmp_path / "s"),
        dtype="float32",  # some virtual CPUs say they compute in bfloat16 and die of it
        max_model_len=64,
        enforce_eager=True,
        gpu_memory_utilization=0.05,
        kv_cache_memory_bytes=32 << 20,
    )
    sampling = vllm.SamplingParams(max_tokens=4, temperature=0.0, ignore_eos=True)
    outputs = engine.generate([{"prompt_token_ids": [5, 6, 7]}], sampling)
    assert len(outputs[0].outputs[0].token_ids) == 4


def test_a_training_whose_states_belong_to_another_now_leaves_them_as_they_are(
    tmp_path: Path, model_dir: Path
) -> None:
    state = state_in(tmp_path, load(model_dir), seed=1)
    take_a_step(state)
    other = save_state(state, 900)

    def taken_over() -> None:
        raise RunInUse("taken over")

    with pytest.raises(RunInUse):
        save_state(dataclasses.replace(state, fence=taken_over), 400)
    assert [path.name for path in tmp_path.iterdir()] == [other.name]
