"""A state directory that a stranger sent: whatever lies in it, nothing of it runs."""

from __future__ import annotations

import io
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
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from transformers import AutoModelForCausalLM

from orca2_gen.config.load import load_config
from orca2_gen.run_directory.arrow_files import DamagedFile
from tests.train.test_sft import killed_in_step, write_config
from train.checkpoint import TrainingState, load_state, save_state
from train.loss import LabelledLoss
from train.optimizers import build_optimizers
from train.sft import train_from_config
from train.state_reader import read_index

WEIGHT = "module.model.model.norm.weight"
SETTING = "optimizers.param_groups.0.weight_decay"


def build_state(directory: Path, model_dir: Path) -> TrainingState:
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    return TrainingState(
        directory=directory,
        module=LabelledLoss(model),
        optimizers=build_optimizers(model, optimizer="muon", learning_rate=1e-2),
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


def index_of(states: Path) -> Metadata:
    found: Metadata = pickle.loads((states / "step-00000004/.metadata").read_bytes())
    return found


def write_index(states: Path, value: Any, protocol: int = 4) -> None:
    (states / "step-00000004/.metadata").write_bytes(pickle.dumps(value, protocol))


def refusal(states: Path, model_dir: Path) -> str:
    """The line with which a state is refused."""
    with pytest.raises(DamagedFile) as caught:
        load_state(build_state(states, model_dir))
    line = str(caught.value)
    assert "\n" not in line and str(states) in line and "start the training again" in line
    return line


def plant_root(states: Path, touch: Touch) -> None:
    write_index(states, touch)


def plant_old_protocol(states: Path, touch: Touch) -> None:
    write_index(states, touch, protocol=0)


def plant_planner(states: Path, touch: Touch) -> None:
    index = index_of(states)
    index.planner_data = touch
    write_index(states, index)


def plant_storage_meta(states: Path, touch: Touch) -> None:
    index = index_of(states)
    index.storage_meta.modules = [touch]
    write_index(states, index)


def plant_key(states: Path, touch: Touch) -> None:
    index = index_of(states)
    index.state_dict_metadata[WEIGHT].properties = touch
    write_index(states, index)


def plant_chunk(states: Path, touch: Touch) -> None:
    index = index_of(states)
    index.state_dict_metadata[WEIGHT].chunks[0].offsets = (touch,)
    write_index(states, index)


def plant_setstate(states: Path, touch: Touch) -> None:
    # BUILD on a permitted class, with a state of which an item is the call.
    properties = TensorProperties()
    index = index_of(states)
    index.state_dict_metadata[WEIGHT].properties = properties
    body = pickle.dumps(index, 4)
    assert body.endswith(b"ub.")
    payload = pickle.dumps(touch, 4)
    (states / "step-00000004/.metadata").write_bytes(
        body[:-1] + b"N" + payload[2:-1].replace(payload[2:11], b"", 1) + b"\x86b."
    )


def plant_dotted(states: Path, touch: Touch) -> None:
    # STACK_GLOBAL follows dots from a permitted module to any other.
    def text(value: str) -> bytes:
        return b"\x8c" + bytes([len(value)]) + value.encode()

    module, command = "torch.distributed.checkpoint.filesystem", f"touch {touch.path}"
    body = text(module) + text("os.system") + b"\x93" + text(command) + b"\x85R."
    (states / "step-00000004/.metadata").write_bytes(b"\x80\x04" + body)


def plant_class_state(states: Path, touch: Touch) -> None:
    # BUILD on a class itself would set its attributes for the whole process.
    body = (
        b"\x80\x02ctorch.distributed.checkpoint.metadata\nMetadata\n"
        b"N}X\x08\x00\x00\x00__init__cos\nsystem\ns\x86b."
    )
    (states / "step-00000004/.metadata").write_bytes(body)


INDEX_PLANTS = [
    plant_root,
    plant_old_protocol,
    plant_planner,
    plant_storage_meta,
    plant_key,
    plant_chunk,
    plant_setstate,
    plant_dotted,
    plant_class_state,
]


@pytest.mark.parametrize("plant", INDEX_PLANTS)
def test_a_payload_in_the_index_is_refused_and_does_not_run(
    states: Path, tmp_path: Path, model_dir: Path, plant: Callable[[Path, Touch], None]
) -> None:
    plant(states, Touch(tmp_path / "ran"))
    assert "/.metadata is no index of ours (" in refusal(states, model_dir)
    assert not (tmp_path / "ran").exists()


def test_the_line_names_the_class_that_a_state_has_not(
    states: Path, tmp_path: Path, model_dir: Path
) -> None:
    plant_root(states, Touch(tmp_path / "ran"))
    assert "it names posix.system" in refusal(states, model_dir)


def replace_entry(states: Path, name: str, body: bytes, *, as_object: bool) -> None:
    """Appends an entry to the state's file and lets the index point to it."""
    index = index_of(states)
    file = states / "step-00000004/__0_0.distcp"
    for key in [key for key in index.storage_data if key.fqn == name]:
        place = _StorageInfo("__0_0.distcp", file.stat().st_size, len(body))
        index.storage_data[MetadataIndex(name) if as_object else key] = place
    if as_object:
        index.state_dict_metadata[name] = BytesStorageMetadata()
    file.write_bytes(file.read_bytes() + body)
    write_index(states, index)


def torch_file(value: Any) -> bytes:
    body = io.BytesIO()
    torch.save(value, body)
    return body.getvalue()


@pytest.mark.parametrize("name", [SETTING, WEIGHT])
@pytest.mark.parametrize("as_object", [True, False])
@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
def test_a_payload_in_an_entry_is_refused_and_does_not_run(
    states: Path, tmp_path: Path, model_dir: Path, name: str, as_object: bool, form: str
) -> None:
    touch = Touch(tmp_path / "ran")
    body = io.BytesIO()
    torch.save(touch, body, _use_new_zipfile_serialization=form == "zip")
    written = pickle.dumps(touch) if form == "bare" else body.getvalue()
    replace_entry(states, name, written, as_object=as_object)
    refusal(states, model_dir)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", ["text", 3, None, [1.0], {"a": 1}, torch.ones(2), (0.9, 0.95)])
def test_a_setting_of_another_type_is_refused(states: Path, model_dir: Path, value: Any) -> None:
    replace_entry(states, SETTING, torch_file(value), as_object=True)
    assert SETTING in refusal(states, model_dir)


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
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_state_record_of_any_other_shape_is_refused(
    states: Path, model_dir: Path, body: str
) -> None:
    path = states / "step-00000004/state.json"
    path.write_bytes(body.encode(errors="surrogateescape"))
    with pytest.raises(DamagedFile, match=r"state\.json") as caught:
        load_state(build_state(states, model_dir))
    assert "\n" not in str(caught.value)


def point_elsewhere(states: Path) -> None:
    index = index_of(states)
    for place in index.storage_data.values():
        place.relative_path = f"../step-00000004/{place.relative_path}"
    write_index(states, index)


def beyond_the_end(states: Path) -> None:
    index = index_of(states)
    for place in index.storage_data.values():
        place.offset += 1 << 40
    write_index(states, index)


def negative(states: Path) -> None:
    index = index_of(states)
    for place in index.storage_data.values():
        place.length = -1
    write_index(states, index)


def drop_an_entry(states: Path) -> None:
    index = index_of(states)
    del index.state_dict_metadata[WEIGHT]
    write_index(states, index)


def drop_a_place(states: Path) -> None:
    index = index_of(states)
    index.storage_data = {k: p for k, p in index.storage_data.items() if k.fqn != WEIGHT}
    write_index(states, index)


def another_size(states: Path) -> None:
    index = index_of(states)
    index.state_dict_metadata[WEIGHT] = TensorStorageMetadata(
        TensorProperties(),
        torch.Size([65]),
        [ChunkStorageMetadata(offsets=torch.Size([0]), sizes=torch.Size([65]))],
    )
    write_index(states, index)


def remove_the_file(states: Path) -> None:
    (states / "step-00000004/__0_0.distcp").unlink()


def cut_the_file(states: Path) -> None:
    file = states / "step-00000004/__0_0.distcp"
    file.write_bytes(file.read_bytes()[:-5000])


def fifo_for_the_file(states: Path) -> None:
    remove_the_file(states)
    os.mkfifo(states / "step-00000004/__0_0.distcp")


def remove_the_index(states: Path) -> None:
    (states / "step-00000004/.metadata").unlink()


def fifo_for_the_index(states: Path) -> None:
    remove_the_index(states)
    os.mkfifo(states / "step-00000004/.metadata")


def huge_index(states: Path) -> None:
    os.truncate(states / "step-00000004/.metadata", 200 << 30)


def cut_the_index(states: Path) -> None:
    file = states / "step-00000004/.metadata"
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(
    "damage",
    [
        point_elsewhere,
        beyond_the_end,
        negative,
        drop_an_entry,
        drop_a_place,
        another_size,
        remove_the_file,
        cut_the_file,
        fifo_for_the_file,
        remove_the_index,
        fifo_for_the_index,
        huge_index,
        cut_the_index,
    ],
)
def test_a_state_of_any_other_shape_is_refused(
    states: Path, model_dir: Path, damage: Callable[[Path], None]
) -> None:
    damage(states)
    refusal(states, model_dir)


def test_a_rank_s_own_index_is_never_read(states: Path, tmp_path: Path, model_dir: Path) -> None:
    """DCP reads `__0.metadata` where `.metadata` fails."""
    step = states / "step-00000004"
    (step / "__0.metadata").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    (step / ".metadata").write_bytes(b"")
    refusal(states, model_dir)
    assert not (tmp_path / "ran").exists()


@hypothesis.settings(max_examples=300)
@given(place=st.integers(0, 1 << 20), byte=st.integers(0, 255))
def test_one_changed_byte_of_an_index_is_read_or_refused(
    saved: Path, place: int, byte: int
) -> None:
    body = bytearray((saved / "step-00000004/.metadata").read_bytes())
    body[place % len(body)] = byte
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / ".metadata").write_bytes(body)
        try:
            index = read_index(Path(folder))
        except DamagedFile as error:
            assert "\n" not in str(error)
        else:
            assert all("/" not in place.relative_path for place in index.storage_data.values())


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
def test_a_planted_state_ends_training_with_one_line_and_exit_code_1(
    interrupted: Path, tmp_path: Path, module: str
) -> None:
    """DCP logs the traceback of an index that it cannot read."""
    states = interrupted / "run/student.training"
    kept = shutil.copytree(states, tmp_path / "kept")
    step = states / "step-00000002"
    (step / ".metadata").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    command = [sys.executable, "-m", module]
    if module != "train.sft":
        command += ["--standalone", "--nproc-per-node=2", "-m", "train.sft"]
    ended = subprocess.run(
        [*command, str(interrupted / "run.toml")], capture_output=True, text=True, check=False
    )
    shutil.rmtree(states)
    shutil.copytree(kept, states)
    assert ended.returncode == 1
    lines = ended.stderr.splitlines()
    assert set(lines) == {lines[0]} and lines[0].startswith(
        f"Error: {step}/.metadata is no index of ours"
    )
    assert not (tmp_path / "ran").exists()
