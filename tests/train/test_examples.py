from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca2_gen.chat import Chat
from orca2_gen.run_directory.arrow_files import DamagedFile
from tests.ray_jobs.several import ROOT, config_file, play
from train.batches import IGNORE_INDEX, PackedExamples, packed_batches
from train.examples import ExampleTable, example_table, load_examples
from train.held_out import held_out
from train.model_directory import check_examples_fit
from train.packing import pack

STUDENT = ROOT / "orca2_gen" / "microworld" / "student"


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
    assert len(examples) == len(set(map(examples.name, range(60)))) == 60
    for index in (0, 24, 25, 59):
        row = examples[index]
        assert len(row.input_ids) == examples.lengths_E[index]
        answer = row.input_ids[row.labels != IGNORE_INDEX]
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
    allocated = pa.total_allocated_bytes()
    few = load_examples(
        copy, prompts="erased", model_dir=model_dir, max_rows_per_task={name: 2, "absent": 0}
    )
    # What is kept stays in the mapped files; a copy of it would be 4 bytes a token, on every rank.
    assert pa.total_allocated_bytes() - allocated < few.lengths_E.sum()
    first_two = [i for i, task in enumerate(tasks) if task == name][:2]
    kept = [i for i, task in enumerate(tasks) if task != name or i in first_two]
    assert [few.name(i) for i in range(len(few))] == [everything.name(i) for i in kept]
    assert few.lengths_E.tolist() == everything.lengths_E[kept].tolist()
    assert [len(few[i].input_ids) for i in range(len(kept))] == few.lengths_E.tolist()
    assert [few.tasks[place] for place in few.task_E] == [tasks[i] for i in kept]
    for index, row in enumerate(kept):
        assert (few[index].input_ids == everything[row].input_ids).all()
        assert (few[index].labels == everything[row].labels).all()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), st.integers(2, 5)), min_size=1, max_size=30),
    limits=st.dictionaries(st.sampled_from("abc"), st.integers(1, 4)),
    chunk=st.integers(1, 30),
)
def test_a_table_has_the_first_rows_of_each_task_whatever_the_chunks_and_copies_none(
    rows: list[tuple[str, int]], limits: dict[str, int], chunk: int
) -> None:
    limits = {task: limit for task, limit in limits.items() if task in dict(rows)}
    plain = [
        {
            "input_ids": [(7 * row + token) % 61 for token in range(length)],
            "num_prompt_tokens": 1,
            "task": task,
            "problem_id": f"{task}/{row}",
        }
        for row, (task, length) in enumerate(rows)
    ]
    parts = [plain[start : start + chunk] for start in range(0, len(plain), chunk)]
    columns = pa.concat_tables([pa.Table.from_pylist(part) for part in parts])
    table = example_table(Path("dataset"), columns, digest="", max_rows_per_task=limits)
    seen: Counter[str] = Counter()
    kept = []
    for row in plain:
        seen[row["task"]] += 1
        if seen[row["task"]] <= limits.get(row["task"], len(rows)):
            kept.append(row)
    assert [table[index].input_ids.tolist() for index in range(len(table))] == [
        row["input_ids"] for row in kept
    ]
    assert [table.name(index) for index in range(len(table))] == [row["problem_id"] for row in kept]
    assert [table.tasks[place] for place in table.task_E] == [row["task"] for row in kept]
    assert table.lengths_E.tolist() == [len(row["input_ids"]) for row in kept]
    assert table.largest_id == max(max(row["input_ids"]) for row in kept)
    held = held_out(table, seq_len=5, too_long="refuse", layout="packed", rows_per_forward=1)
    found = {task: sorted(itertools.chain(*each)) for task, each in held.rows_by_task.items()}
    assert found == {
        task: [index for index, row in enumerate(kept) if row["task"] == task]
        for task in sorted({row["task"] for row in kept})
    }


@pytest.mark.parametrize("lengths", [[0], [3, 0], [3, 3, 0]])
def test_a_row_without_tokens_is_refused_by_name(lengths: list[int]) -> None:
    columns = pa.concat_tables(
        pa.table(
            {
                "input_ids": pa.array([list(range(length))], pa.list_(pa.int32())),
                "num_prompt_tokens": [1],
                "task": ["a"],
                "problem_id": [f"a/{row}"],
            }
        )
        for row, length in enumerate(lengths)
    )
    with pytest.raises(ValueError, match=rf"a/{len(lengths) - 1} has 0 tokens .* nothing to learn"):
        example_table(Path("dataset"), columns, digest="")


@pytest.mark.parametrize("limits", [{"typo": 3}, {"sums": 0}])
def test_limits_that_name_no_row_or_leave_none_are_refused(
    copy: Path, model_dir: Path, limits: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match="max_rows_per_task"):
        load_examples(copy, prompts="erased", model_dir=model_dir, max_rows_per_task=limits)


def relisted(copy: Path, shard: Path, body: bytes) -> None:
    """Changes a shard and gives the manifest its new size and digest, as a stranger would."""
    shard.write_bytes(body)
    manifest = json.loads((copy / "manifest.json").read_text())
    for entry in manifest["files"]:
        if entry["path"] == shard.name:
            entry |= {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    (copy / "manifest.json").write_text(json.dumps(manifest))


def with_column(copy: Path, name: str, change: Callable[[pa.Array], pa.Array]) -> Path:
    """Changes a column of the first shard, which stays a shard that the manifest lists."""
    shard = sorted(copy.glob("*.arrow"))[0]
    table = pa.ipc.open_stream(shard.read_bytes()).read_all().combine_chunks()
    place = table.schema.get_field_index(name)
    table = table.set_column(place, name, change(table.column(place).chunk(0)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    relisted(copy, shard, sink.getvalue().to_pybytes())
    return shard


def first_id(ids: pa.Array, value: int | None) -> pa.Array:
    rows = ids.to_pylist()
    rows[0][0] = value
    return pa.array(rows, ids.type)


FAULTS: dict[str, tuple[str, Callable[[pa.Array], pa.Array]]] = {
    "it holds the token id -5": ("input_ids", lambda a: first_id(a, -5)),
    "the column 'input_ids' has a null": ("input_ids", lambda a: first_id(a, None)),
    "expected one column 'input_ids' of lists": ("input_ids", lambda a: pa.array(["x"] * len(a))),
    "expected one column 'task' of texts": ("task", lambda a: a.dictionary_encode()),
    "the column 'problem_id' has a null": (
        "problem_id",
        lambda a: pa.array([None, *a.to_pylist()[1:]], a.type),
    ),
    "expected one column 'num_prompt_tokens' of whole numbers": (
        "num_prompt_tokens",
        lambda a: a.cast(pa.float64()),
    ),
}


@pytest.mark.parametrize("line", FAULTS)
def test_values_that_no_row_of_ours_has_are_one_line(
    copy: Path, model_dir: Path, line: str
) -> None:
    column, change = FAULTS[line]
    shard = with_column(copy, column, change)
    with pytest.raises(DamagedFile) as caught:
        read(copy, model_dir)
    assert f"{shard} is no shard of examples: {line}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "body", ["{}", "[]", "null", '{"_data_files": 5}', '{"_data_files": [1]}', "[" * 9999]
)
def test_a_state_json_of_any_other_shape_is_one_line(
    copy: Path, model_dir: Path, body: str
) -> None:
    (copy / "state.json").write_text(body)
    edit(copy / "manifest.json", descriptions=[])
    with pytest.raises(DamagedFile, match=r"state\.json lists no files of a dataset"):
        read(copy, model_dir)


@pytest.mark.parametrize("change", [{"_format_type": "pickle"}, {"_format_columns": 7}])
def test_a_format_that_datasets_does_not_know_is_one_line_or_no_matter(
    copy: Path, model_dir: Path, change: dict[str, object]
) -> None:
    edit(copy / "state.json", **change)
    edit(copy / "manifest.json", descriptions=[])
    try:
        found = read(copy, model_dir)
    except ValueError as error:
        assert "\n" not in str(error) and str(copy) in str(error)
    else:
        assert len(found) == 60


CHANGED_BYTES = """
import random, sys
from pathlib import Path
from tests.train.test_examples import read, relisted
copy, model_dir, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
shard = sorted(copy.glob("*.arrow"))[0]
whole = shard.read_bytes()
draw = random.Random(seed)
refused = 0
for _ in range(150):
    body = bytearray(whole)
    for _ in range(draw.choice([1, 1, 4])):
        body[draw.randrange(len(body))] = draw.randrange(256)
    relisted(copy, shard, bytes(body))
    try:
        table = read(copy, model_dir)
    except ValueError as error:
        assert "\\n" not in str(error), error
        refused += 1
        continue
    for index in range(60):
        ids = table[index].input_ids
        assert len(ids) == table.lengths_E[index] and (ids >= 0).all() and ids.max() < 2**63
print(refused)
"""


@pytest.mark.parametrize("seed", range(2))
def test_a_changed_byte_with_a_fitting_digest_is_refused_or_read_and_never_a_crash(
    copy: Path, model_dir: Path, seed: int
) -> None:
    command = [sys.executable, "-c", CHANGED_BYTES, str(copy), str(model_dir), str(seed)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) > 10


def test_rationales_of_one_problem_are_examples_of_their_own_in_one_row_or_many(
    tmp_path: Path,
) -> None:
    said = {own: ["Answer: 7", "So. Answer: 7", "Well. Answer: 7"] for own in "abcd"}
    file = config_file(tmp_path, said)
    summary = play(file, tmp_path / "run", said, "rationales.per_problem=3")
    examples = read(tmp_path / "run" / "dataset", STUDENT)
    assert len(set(map(examples.name, range(12)))) == len(examples) == 12
    assert tuple(map(examples.name, range(3))) == (
        "sums/train/a",
        "sums/train/a, attempt 1",
        "sums/train/a, attempt 2",
    )
    longest = int(examples.lengths_E.max())
    for seq_len in (longest, 3 * longest, 12 * longest):
        packing = pack(examples.lengths_E, seq_len=seq_len, seed=0, name_of=examples.name)
        rows = [PackedExamples(examples=examples, packing=packing)]
        steps = packed_batches(rows, rows_per_step=1, seed=0)
        epoch = [next(steps) for _ in packing.rows]
        assert sum(batch.num_labelled_tokens for batch in epoch) == summary.trained_tokens
        resumed = packed_batches(rows, rows_per_step=1, seed=0, start_step=len(epoch) - 1)
        [again], [last] = next(resumed).passes, epoch[-1].passes
        assert again.input_ids_BT.equal(last.input_ids_BT)
