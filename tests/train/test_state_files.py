"""A state that a stranger sent or a disk damaged: nothing of it runs, and none is half read."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from orca2_gen.config.load import load_config
from orca2_gen.run_directory.arrow_files import DamagedFile
from tests.train.test_sft import killed_in_step, write_config
from train import state_files
from train.checkpoint import TrainingState, load_state
from train.loss import LabelledLoss
from train.optimizers import build_optimizers
from train.saving import save_state
from train.sft import train_from_config
from train.state_files import file_sizes, read_tensors, write_tensors

WEIGHT = "module.model.model.norm.weight"
MOMENT = "optimizers.model.model.norm.weight.exp_avg"
FILE = "shard-00001-model-00001-of-00001.safetensors"
STEP = "step-00000004"


def build_state(directory: Path, model_dir: Path, learning_rate: float = 1e-2) -> TrainingState:
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    return TrainingState(
        directory=directory,
        module=LabelledLoss(model),
        optimizers=build_optimizers(model, optimizer="muon", learning_rate=learning_rate),
        determinants={"seed": 1},
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Path:
    """The directory of a state after step 4; copy it before you change it."""
    directory = tmp_path_factory.mktemp("saved") / "states"
    save_state(build_state(directory, model_dir), 4)
    return directory


@pytest.fixture
def states(tmp_path: Path, saved: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "states"))


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def refusal(states: Path, model_dir: Path) -> str:
    """The line with which a state is refused."""
    with pytest.raises(DamagedFile) as caught:
        load_state(build_state(states, model_dir))
    line = str(caught.value)
    assert "\n" not in line and str(states) in line and "start the training again" in line
    return line


def record_sizes(step: Path) -> None:
    """Lets a state's record agree with its files, as a stranger would."""
    path = step / "state.json"
    record = json.loads(path.read_text())
    path.unlink()
    record["files"] = file_sizes(step)
    path.write_text(json.dumps(record))


def test_a_state_holds_safetensors_and_a_record_and_nothing_else(saved: Path) -> None:
    assert sorted(path.name for path in (saved / STEP).iterdir()) == [FILE, "state.json"]


@pytest.mark.parametrize("name", [".metadata", "__0.metadata", "__0_0.distcp", "state.pt"])
def test_a_pickle_beside_the_files_is_not_read(
    states: Path, tmp_path: Path, model_dir: Path, name: str
) -> None:
    (states / STEP / name).write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    assert load_state(build_state(states, model_dir)) == 4
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", ["pickle", "zip", "legacy"])
def test_a_pickle_in_place_of_a_file_is_refused_and_does_not_run(
    states: Path, tmp_path: Path, model_dir: Path, form: str
) -> None:
    file, touch = states / STEP / FILE, Touch(tmp_path / "ran")
    if form == "pickle":
        file.write_bytes(pickle.dumps(touch))
    else:
        torch.save(touch, file, _use_new_zipfile_serialization=form == "zip")
    record_sizes(states / STEP)
    assert "cannot be read (SafetensorError" in refusal(states, model_dir)
    assert not (tmp_path / "ran").exists()


def test_a_state_of_the_pickled_format_is_refused_in_one_line(
    tmp_path: Path, model_dir: Path
) -> None:
    step = tmp_path / "states" / STEP
    state = build_state(tmp_path / "states", model_dir)
    dcp.save({"module": state.module.state_dict()}, checkpoint_id=step)
    (step / "state.json").write_text('{"step": 4, "determinants": {"seed": 1}}')
    with pytest.raises(ValueError, match="is a state of an older format, with pickled files") as no:
        load_state(state)
    assert "\n" not in str(no.value) and not isinstance(no.value, DamagedFile)


@pytest.mark.parametrize("number", [1, 3, "2", True, None, [2]])
def test_a_state_of_another_format_is_refused(states: Path, model_dir: Path, number: Any) -> None:
    path = states / STEP / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": number}))
    with pytest.raises(ValueError, match="expected format 2; finish that training with the"):
        load_state(build_state(states, model_dir))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"step": 4}',
        '{"step": "4", "determinants": {"seed": 1}}',
        '{"step": 5, "determinants": {"seed": 1}}',
        '{"step": true, "determinants": {"seed": 1}}',
        '{"step": 4, "determinants": [1]}',
        '{"step": 4.0, "determinants": {"seed": 1}}',
        '{"format": 2, "step": 4, "determinants": {"seed": 1}}',
        '{"format": 2, "step": 4, "determinants": {"seed": 1}, "files": ["a"]}',
        '{"format": 2, "step": 4, "determinants": {"seed": 1}, "files": {}}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_state_record_of_any_other_shape_is_refused(
    states: Path, model_dir: Path, body: str
) -> None:
    path = states / STEP / "state.json"
    path.write_bytes(body.encode(errors="surrogateescape"))
    with pytest.raises(DamagedFile, match=r"state\.json") as caught:
        load_state(build_state(states, model_dir))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../step-00000004/x.safetensors", "", ".", "/dev/zero", "state"])
def test_a_record_that_names_other_files_is_refused(
    states: Path, model_dir: Path, name: str
) -> None:
    path = states / STEP / "state.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "files": {**record["files"], name: 8}}))
    assert " lacks " in refusal(states, model_dir)


Contents = dict[str, torch.Tensor]


def drop_a_weight(tensors: Contents) -> None:
    del tensors[WEIGHT]


def one_weight_more(tensors: Contents) -> None:
    tensors["module.more"] = torch.ones(2)


def another_size(tensors: Contents) -> None:
    tensors[WEIGHT] = torch.ones(len(tensors[WEIGHT]) + 1)


def another_rank(tensors: Contents) -> None:
    tensors[WEIGHT] = tensors[WEIGHT].unsqueeze(0)


def another_dtype(tensors: Contents) -> None:
    tensors[WEIGHT] = tensors[WEIGHT].to(torch.bfloat16)


def nothing(tensors: Contents) -> None:
    tensors.clear()


@pytest.mark.parametrize(
    "change",
    [drop_a_weight, one_weight_more, another_size, another_rank, another_dtype, nothing],
)
def test_other_tensors_than_the_model_s_are_refused(
    states: Path, model_dir: Path, change: Callable[[Contents], None]
) -> None:
    file = states / STEP / FILE
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    record_sizes(states / STEP)
    assert "does not fit this model" in refusal(states, model_dir)


def remove_the_file(step: Path) -> None:
    (step / FILE).unlink()


def cut_the_file(step: Path) -> None:
    os.truncate(step / FILE, (step / FILE).stat().st_size - 5000)


def fifo_for_the_file(step: Path) -> None:
    remove_the_file(step)
    os.mkfifo(step / FILE)


def directory_for_the_file(step: Path) -> None:
    remove_the_file(step)
    (step / FILE).mkdir()


def one_file_more(step: Path) -> None:
    save_file({"module.more": torch.ones(2)}, step / "shard-00002.safetensors")


def huge_header(step: Path) -> None:
    (step / FILE).write_bytes((1 << 62).to_bytes(8, "little"))
    record_sizes(step)


@pytest.mark.parametrize(
    "damage",
    [
        remove_the_file,
        cut_the_file,
        fifo_for_the_file,
        directory_for_the_file,
        one_file_more,
        huge_header,
    ],
)
def test_files_other_than_those_that_were_written_are_refused(
    states: Path, model_dir: Path, damage: Callable[[Path], None]
) -> None:
    damage(states / STEP)
    refusal(states, model_dir)


@hypothesis.settings(max_examples=200)
@given(place=st.integers(0, 1 << 20), byte=st.integers(0, 255))
def test_one_changed_byte_of_a_header_is_read_or_refused_in_one_line(place: int, byte: int) -> None:
    tensors = {"optimizers.a": torch.arange(6.0).view(3, 2), "optimizers.b": torch.tensor(1.0)}
    with tempfile.TemporaryDirectory() as folder:
        step = Path(folder)
        write_tensors(tensors, step)
        file = step / FILE
        body = bytearray(file.read_bytes())
        body[place % (8 + int.from_bytes(body[:8], "little"))] = byte
        file.write_bytes(body)
        try:
            read_tensors(tensors, step, file_sizes(step), may_be_absent="optimizers.")
        except DamagedFile as error:
            assert "\n" not in str(error)


def write_pieces(step: Path, *pieces: tuple[int, int]) -> None:
    """Rows of one tensor of 6 rows, from one to another, each piece in the file of its rank."""
    step.mkdir()
    for rank, (start, end) in enumerate(pieces, 1):
        save_file(
            {"a": torch.arange(start, end).float()[:, None]},
            step / f"shard-{rank:05}.safetensors",
            {"DCP_SHARDING_INFO": json.dumps({"a": {"saved_offsets": [start, 0]}})},
        )


def test_the_pieces_of_any_number_of_ranks_are_read_whole(tmp_path: Path) -> None:
    for number, pieces in enumerate([[(0, 6)], [(0, 2), (2, 4), (4, 6)], [(0, 5), (5, 6), (6, 6)]]):
        write_pieces(tmp_path / str(number), *pieces)
        tensor = torch.zeros(6, 1)
        directory = tmp_path / str(number)
        read_tensors({"a": tensor}, directory, file_sizes(directory), may_be_absent="-")
        assert tensor[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    "pieces", [[(0, 2), (4, 6)], [(0, 4), (2, 6)], [(2, 6)], [(0, 3), (0, 3), (3, 6)]]
)
def test_pieces_that_do_not_make_a_whole_are_refused(
    tmp_path: Path, pieces: list[tuple[int, int]]
) -> None:
    """torch would leave the rows between them as they are in memory, and say nothing."""
    write_pieces(tmp_path / "step", *pieces)
    sizes = file_sizes(tmp_path / "step")
    with pytest.raises(DamagedFile, match=r"\(a is not whole\)"):
        read_tensors({"a": torch.zeros(6, 1)}, tmp_path / "step", sizes, may_be_absent="-")


def test_a_state_of_several_files_comes_back_whole(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_files, "FILE_BYTES", 1 << 16)
    state = build_state(tmp_path / "states", model_dir)
    for parameter in state.module.parameters():
        parameter.grad = torch.randn_like(parameter)
    for optimizer in state.optimizers:
        optimizer.step()
    save_state(state, 4)
    assert len(list((tmp_path / "states" / STEP).glob("*.safetensors"))) > 5
    resumed = build_state(tmp_path / "states", model_dir)
    assert load_state(resumed) == 4
    for name, parameter in state.module.named_parameters():
        again = resumed.module.get_parameter(name)
        assert torch.equal(parameter, again)
        for one, other in zip(state.optimizers, resumed.optimizers, strict=True):
            remembered = one.state.get(parameter, {})
            assert remembered.keys() == other.state.get(again, {}).keys()
            for key, value in remembered.items():
                assert torch.equal(value, other.state[again][key])


def test_tied_weights_are_stored_once(saved: Path) -> None:
    with safe_open(saved / STEP / FILE, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith("module.")]  # noqa: SIM118
    tied = ["module.model.lm_head.weight", "module.model.model.embed_tokens.weight"]
    assert len([name for name in names if name in tied]) == 1


def test_rates_come_from_the_config_and_not_from_the_state(states: Path, model_dir: Path) -> None:
    resumed = build_state(states, model_dir, learning_rate=3e-4)
    load_state(resumed)
    rates = {group["lr"] for each in resumed.optimizers for group in each.param_groups}
    assert rates == {3e-4}


def test_what_an_optimizer_does_not_remember_is_as_if_it_had_never_stepped(
    tmp_path: Path, model_dir: Path
) -> None:
    """A parameter without a gradient has no state, and its first step is a first one."""
    state = build_state(tmp_path / "states", model_dir)
    norm = state.module.model.model.norm.weight
    for parameter in state.module.parameters():
        parameter.grad = None if parameter is norm else torch.ones_like(parameter)
    for optimizer in state.optimizers:
        optimizer.step()
    save_state(state, 4)
    resumed = build_state(tmp_path / "states", model_dir)
    load_state(resumed)
    for each in (state, resumed):
        each.module.model.model.norm.weight.grad = torch.ones_like(norm)
        each.optimizers[-1].step()
    assert torch.equal(norm, resumed.module.model.model.norm.weight)


@pytest.fixture(scope="module")
def interrupted(
    tmp_path_factory: pytest.TempPathFactory, model_dir: Path, dataset_dir: Path
) -> Path:
    """The folder of a training that ended in its third step; copy it before you change it."""
    folder = tmp_path_factory.mktemp("interrupted")
    config = write_config(folder / "here", model_dir, dataset_dir, "adamw")
    with pytest.MonkeyPatch.context() as patched, killed_in_step(3, patched):
        train_from_config(load_config(config))
    return folder / "here"


@pytest.mark.parametrize(
    "module", ["train.sft", pytest.param("train.launch", marks=pytest.mark.slow)]
)
def test_a_damaged_state_ends_training_with_one_line_of_refusal_and_exit_code_1(
    interrupted: Path, tmp_path: Path, module: str
) -> None:
    states = interrupted / "run/student.training"
    kept = shutil.copytree(states, tmp_path / "kept")
    step = states / "step-00000002"
    (step / FILE).write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    record_sizes(step)
    command = [sys.executable, "-m", module]
    if module != "train.sft":
        command += ["--standalone", "--nproc-per-node=2", "-m", "train.sft"]
    ended = subprocess.run(
        [*command, str(interrupted / "run.toml")], capture_output=True, text=True, check=False
    )
    shutil.rmtree(states)
    shutil.copytree(kept, states)
    assert ended.returncode == 1
    few_steps, *lines = ended.stderr.splitlines()
    assert few_steps.startswith("the training has 8 steps")
    assert len(lines) == 1 and lines[0].startswith(f"Error: {step} cannot be read (Safetensor")
    assert not (tmp_path / "ran").exists()


def test_an_optimizer_that_has_not_stepped_is_saved_as_it_is(
    tmp_path: Path, model_dir: Path
) -> None:
    """The state before a first batch that is not finite: torch takes a step to have one."""
    state = build_state(tmp_path / "states", model_dir)
    save_state(state, 0)
    resumed, fresh = (build_state(tmp_path / name, model_dir) for name in ("states", "none"))
    assert load_state(resumed) == 0
    for each in (state, resumed, fresh):
        for parameter in each.module.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
        for optimizer in each.optimizers:
            optimizer.step()
    for name, parameter in fresh.module.named_parameters():
        assert torch.equal(parameter, state.module.get_parameter(name)), name
        assert torch.equal(parameter, resumed.module.get_parameter(name)), name


def test_half_of_what_an_optimizer_remembers_of_a_parameter_is_refused(
    states: Path, model_dir: Path
) -> None:
    tensors = load_file(states / STEP / FILE)
    del tensors[MOMENT]
    save_file(tensors, states / STEP / FILE)
    record_sizes(states / STEP)
    assert f"it has no {MOMENT}" in refusal(states, model_dir)
