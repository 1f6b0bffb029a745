from __future__ import annotations

import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest

from orca2_gen.chat import Chat
from train.examples import ExampleTable, load_examples
from train.model import check_examples_fit


def read(dataset_dir: Path, model_dir: Path, prompts: str = "erased") -> ExampleTable:
    return load_examples(dataset_dir, prompts=prompts, model_dir=model_dir)


@pytest.fixture
def copy(tmp_path: Path, dataset_dir: Path) -> Path:
    return Path(shutil.copytree(dataset_dir, tmp_path / "copy"))


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_every_example_comes_with_its_tokens(
    dataset_dir: Path, model_dir: Path, chatml: Chat
) -> None:
    examples = read(dataset_dir, model_dir)
    assert len(examples.lengths) == len(set(examples.problem_ids)) == 60
    for index in (0, 24, 25, 59):
        row = examples[index]
        assert len(row.input_ids) == examples.lengths[index]
        answer = row.input_ids[row.num_prompt_tokens :]
        assert chatml.tokenizer.decode(answer) == f"Answer: {4 * index}<|im_end|>"
    assert examples.largest_id == max(int(np.max(examples[i].input_ids)) for i in range(60))


@pytest.mark.parametrize("prompts", ["instruction_kept", "foreign"])
def test_another_kind_of_prompts_is_refused(
    dataset_dir: Path, model_dir: Path, prompts: str
) -> None:
    with pytest.raises(ValueError, match=f"prompts is 'erased' and training expects '{prompts}'"):
        read(dataset_dir, model_dir, prompts)


def test_another_tokenizer_is_refused(copy: Path, model_dir: Path) -> None:
    edit(copy / "manifest.json", tokenizer_digest="0123")
    with pytest.raises(ValueError, match="encoded with another tokenizer"):
        read(copy, model_dir)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_shard_is_refused_before_it_is_mapped(
    copy: Path, model_dir: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.examples.datasets.load_from_disk", None)
    shard = sorted(copy.glob("*.arrow"))[1]
    body = bytearray(shard.read_bytes())
    body[len(body) // 2] ^= 1
    shard.write_bytes(bytes(body) if damage == "flip" else bytes(body[:-8]))
    if damage == "remove":
        shard.unlink()
    with pytest.raises(ValueError, match=shard.name):
        read(copy, model_dir)


def test_a_shard_that_the_manifest_does_not_list_is_refused(copy: Path, model_dir: Path) -> None:
    shards = sorted(path.name for path in copy.glob("*.arrow"))
    shutil.copy(copy / shards[0], copy / "extra.arrow")
    names = [{"filename": name} for name in (*shards, "extra.arrow")]
    edit(copy / "state.json", _data_files=names)
    edit(copy / "manifest.json", descriptions=[])  # a manifest need not list state.json
    with pytest.raises(ValueError, match=r"'extra\.arrow', which manifest\.json does not list"):
        read(copy, model_dir)


def test_a_shard_that_state_json_leaves_out_is_missed(copy: Path, model_dir: Path) -> None:
    names = [{"filename": path.name} for path in sorted(copy.glob("*.arrow"))[1:]]
    edit(copy / "state.json", _data_files=names)
    edit(copy / "manifest.json", descriptions=[])  # a manifest need not list state.json
    with pytest.raises(ValueError, match="holds 35 examples and its manifest lists 60"):
        read(copy, model_dir)


def test_a_directory_without_a_manifest_is_refused(copy: Path, model_dir: Path) -> None:
    (copy / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"manifest\.json"):
        read(copy, model_dir)


def test_a_manifest_without_a_key_is_refused(copy: Path, model_dir: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["prompts"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"manifest\.json lacks prompts"):
        read(copy, model_dir)


def test_examples_that_a_model_cannot_read_are_refused(model_dir: Path) -> None:
    check_examples_fit(model_dir, longest=1024, largest_id=399)
    with pytest.raises(ValueError, match=r"has 1025 tokens and .* has 1024 positions"):
        check_examples_fit(model_dir, longest=1025, largest_id=399)
    with pytest.raises(ValueError, match=r"token id 400 and .* has 400"):
        check_examples_fit(model_dir, longest=1024, largest_id=400)


def test_max_rows_per_task_keeps_the_first_rows_of_a_task(copy: Path, model_dir: Path) -> None:
    everything = read(copy, model_dir)
    tasks = datasets.load_from_disk(str(copy))["task"]
    name = tasks[0]
    few = load_examples(
        copy, prompts="erased", model_dir=model_dir, max_rows_per_task={name: 2, "absent": 0}
    )
    first_two = [i for i, task in enumerate(tasks) if task == name][:2]
    kept = [i for i, task in enumerate(tasks) if task != name or i in first_two]
    assert few.problem_ids == tuple(everything.problem_ids[i] for i in kept)
    assert few.lengths == tuple(everything.lengths[i] for i in kept)
    assert [len(few[i].input_ids) for i in range(len(kept))] == list(few.lengths)


@pytest.mark.parametrize("limits", [{"typo": 3}, {"sums": 0}])
def test_limits_that_name_no_row_or_leave_none_are_refused(
    copy: Path, model_dir: Path, limits: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match="max_rows_per_task"):
        load_examples(copy, prompts="erased", model_dir=model_dir, max_rows_per_task=limits)
