from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca2_gen.chat import Chat
from orca2_gen.dataset.export import dataset_directory, export
from orca2_gen.dataset.export_files import FORMATS, Bounds, Format, row_groups
from orca2_gen.dataset.export_manifest import read_export
from orca2_gen.dataset.manifest import checked_manifest, read_examples
from orca2_gen.dataset.shapes import SHAPES, THOUGHT, Shape
from orca2_gen.records import Example, Message
from orca2_gen.run_directory.arrow_files import DamagedFile, write_records
from orca2_gen.strategies import Strategies
from tests.conftest import dataset_of
from tests.dataset.test_write import examples_of, plan_of

LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(alphabet=f'{LINE_ENDS}\0"\\/\u00e4\U0001f600', max_size=12),
    st.sampled_from(["", "2026-11-29", "<|im_start|>system", "</think>", "null", "{}", "1e5"]),
)
ALL = [(shape, format) for shape in SHAPES for format in FORMATS]


NO_THOUGHTS = st.just("")


@st.composite
def examples(draw: st.DrawFn, thoughts: st.SearchStrategy[str] = NO_THOUGHTS) -> list[Example]:
    num = draw(st.integers(1, 7))
    return [example(draw, str(number), draw(thoughts)) for number in range(num)]


def example(draw: st.DrawFn, number: str, thought: str) -> Example:
    system = [Message(role="system", content=draw(TEXTS))] if draw(st.booleans()) else []
    ids = draw(st.lists(st.integers(0, 2**31 - 1), min_size=2, max_size=9))
    return Example(
        problem_id=f"{draw(TEXTS)}/{number}",
        task=draw(st.sampled_from(["a", "b\u2028", ""])),
        strategy=draw(st.sampled_from(["direct_answer", "\U0001f600"])),
        messages=(
            *system,
            Message(role="user", content=draw(TEXTS)),
            Message(role="assistant", content=draw(TEXTS), reasoning=thought),
        ),
        input_ids=tuple(ids),
        num_prompt_tokens=draw(st.integers(0, len(ids) - 1)),
    )


def dataset(
    root: Path,
    chat: Chat,
    strategies: Strategies,
    rows: list[Example],
    *,
    per_shard: int = 3,
    has_reasoning: bool = False,
) -> Path:
    """A dataset directory of any rows at all."""
    entry = write_records(root, "examples/0.arrow", rows, Example)
    plan = plan_of(chat, [entry], per_shard=per_shard, prompts="instruction_kept")
    dataset_of(root, dataclasses.replace(plan, has_reasoning=has_reasoning), strategies)
    return root / "dataset"


def read(out: Path, format: Format) -> list[dict[str, Any]]:
    """The rows of an export, as any program reads them."""
    rows: list[dict[str, Any]] = []
    for path in sorted(out.glob(f"train-*.{format}")):
        if format == "parquet":
            rows += pq.read_table(path, page_checksum_verification=True).to_pylist()
        else:
            rows += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return rows


def wanted(row: Example, shape: Shape, has_reasoning: bool = False) -> dict[str, Any]:
    """The row in a shape, written down by hand."""
    names = ("problem_id", "task", "strategy", "attempt")
    kept = {name: getattr(row, name) for name in names}
    turns = [{"role": turn.role, "content": turn.content} for turn in row.messages]
    if has_reasoning:
        turns = [
            {**turn, THOUGHT: m.reasoning} for turn, m in zip(turns, row.messages, strict=True)
        ]
    *prompt, answer = turns
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    ids = list(row.input_ids)
    made: dict[Shape, dict[str, Any]] = {
        "messages": {"messages": turns},
        "prompt_completion": {"prompt": prompt, "completion": [answer]},
        "tokens": {
            "input_ids": ids,
            "attention_mask": [1] * len(ids),
            "labels": [-100] * row.num_prompt_tokens + ids[row.num_prompt_tokens :],
        },
        "sharegpt": {
            "conversations": [
                {"from": names[turn["role"]], "value": turn["content"]} for turn in turns
            ]
        },
        "alpaca": {
            "instruction": prompt[-1]["content"],
            "input": "",
            "output": answer["content"],
            "system": prompt[0]["content"] if len(prompt) == 2 else "",
            "history": [],
        },
    }
    return {**kept, **made[shape]}


@pytest.fixture
def source(tmp_path: Path, chatml: Chat, strategies: Strategies) -> Path:
    """A run directory with seven rows in three shards."""
    dataset(tmp_path / "run", chatml, strategies, examples_of(chatml, strategies, 7))
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(deadline=None, max_examples=25)
@given(rows=examples(), per_shard=st.integers(1, 4), file_rows=st.integers(1, 9))
@pytest.mark.parametrize(("shape", "format"), ALL)
def test_every_row_comes_out_whole_and_in_order_whatever_its_text(
    chatml: Chat,
    strategies: Strategies,
    shape: Shape,
    format: Format,
    rows: list[Example],
    per_shard: int,
    file_rows: int,
) -> None:
    bounds = Bounds(group_rows=file_rows, file_bytes=1)
    with tempfile.TemporaryDirectory() as folder:
        root = dataset(Path(folder) / "run", chatml, strategies, rows, per_shard=per_shard)
        out = Path(folder) / "out"
        made = export(root, out, shape=shape, format=format, bounds=bounds)
        assert read(out, format) == [wanted(row, shape) for row in rows]
        assert made.rows == len(rows) == sum(entry.rows for entry in made.files)
        assert len(made.files) == len(list(out.glob(f"train-*-of-{len(made.files):05d}.{format}")))
        assert made.trained_tokens == sum(len(r.input_ids) - r.num_prompt_tokens for r in rows)
        if shape == "tokens":
            labels = [label for row in read(out, format) for label in row["labels"]]
            assert made.trained_tokens == sum(label != -100 for label in labels)


@settings(deadline=None, max_examples=15)
@given(rows=examples(thoughts=TEXTS))
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("shape", ["messages", "prompt_completion"])
def test_a_thought_stands_apart_from_the_answer(
    chatml: Chat, strategies: Strategies, shape: Shape, format: Format, rows: list[Example]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = dataset(Path(folder) / "run", chatml, strategies, rows, has_reasoning=True)
        export(root, Path(folder) / "out", shape=shape, format=format)
        assert read(Path(folder) / "out", format) == [wanted(row, shape, True) for row in rows]


@pytest.mark.parametrize("shape", ["sharegpt", "alpaca"])
def test_a_shape_without_a_place_for_thoughts_refuses_them(
    tmp_path: Path, chatml: Chat, strategies: Strategies, shape: Shape
) -> None:
    first, second = examples_of(chatml, strategies, 2)
    answer = dataclasses.replace(second.messages[-1], reasoning="hm")
    told = dataclasses.replace(second, messages=(*second.messages[:-1], answer))
    root = dataset(tmp_path, chatml, strategies, [first, told], has_reasoning=True)
    with pytest.raises(ValueError, match=rf"t/train/1 has a thought, which {shape} has no place"):
        export(root, tmp_path / "out", shape=shape, format="parquet")
    assert not (tmp_path / "out").exists()
    plain = dataset(tmp_path / "b", chatml, strategies, [first], has_reasoning=True)
    export(plain, tmp_path / "out", shape=shape, format="parquet")
    assert read(tmp_path / "out", "parquet") == [wanted(first, shape)]


@pytest.mark.parametrize("shape", ["messages", "sharegpt", "alpaca"])
def test_a_row_of_several_answers_is_refused_where_a_trainer_would_train_them_all(
    tmp_path: Path, chatml: Chat, strategies: Strategies, shape: Shape
) -> None:
    (row,) = examples_of(chatml, strategies, 1)
    longer = dataclasses.replace(row, messages=(*row.messages, *row.messages[1:]))
    root = dataset(tmp_path, chatml, strategies, [longer])
    with pytest.raises(ValueError, match=r"t/train/0 is not a system message, a user's and an"):
        export(root, tmp_path / "out", shape=shape, format="jsonl")
    export(root, tmp_path / "out", shape="prompt_completion", format="jsonl")
    assert read(tmp_path / "out", "jsonl") == [wanted(longer, "prompt_completion")]


def test_a_row_that_teaches_nothing_is_refused(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    (row,) = examples_of(chatml, strategies, 1)
    mute = dataclasses.replace(row, num_prompt_tokens=len(row.input_ids))
    root = dataset(tmp_path, chatml, strategies, [mute])
    with pytest.raises(ValueError, match="leaves nothing to learn"):
        export(root, tmp_path / "out", shape="tokens", format="parquet")


def test_a_dataset_without_rows_is_refused(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    root = dataset(tmp_path, chatml, strategies, [])
    with pytest.raises(ValueError, match="nothing to export"):
        export(root, tmp_path / "out", shape="tokens", format="parquet")


@pytest.mark.parametrize(("shape", "format"), ALL)
def test_load_dataset_opens_the_directory_and_the_files(
    tmp_path: Path, source: Path, shape: Shape, format: Format
) -> None:
    import datasets

    out = tmp_path / "out"
    made = export(source / "dataset", out, shape=shape, format=format, bounds=Bounds(group_rows=2))
    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset(str(out), split="train", cache_dir=cache)
    kind = "json" if format == "jsonl" else format
    files = datasets.load_dataset(
        kind, data_files=f"{out}/train-*.{format}", split="train", cache_dir=cache
    )
    assert loaded.to_list() == read(out, format) and files.to_list() == read(out, format)
    assert len(loaded) == made.rows == 7
    columns = {column: str(loaded.features[column]) for column in loaded.column_names}
    assert not any("null" in kind or "timestamp" in kind for kind in columns.values()), columns


def test_parquet_keeps_texts_that_look_like_dates_which_a_json_reader_takes_for_dates(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    import datasets

    (row,) = examples_of(chatml, strategies, 1)
    dated = tuple(dataclasses.replace(m, content="2026-11-29T00:00:00Z") for m in row.messages)
    root = dataset(tmp_path, chatml, strategies, [dataclasses.replace(row, messages=dated)])
    export(root, tmp_path / "out", shape="alpaca", format="parquet")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"][0]["output"] == "2026-11-29T00:00:00Z"


def test_parquet_has_page_checksums_and_row_groups_and_files_of_bounded_size(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    rows = examples_of(chatml, strategies, 40)
    root = dataset(tmp_path, chatml, strategies, rows, per_shard=17)
    one = pa.table({"x": [wanted(rows[0], "messages")]}).nbytes
    bounds = Bounds(group_rows=7, group_bytes=5 * one, file_bytes=4000)
    export(root, tmp_path / "out", shape="messages", format="parquet", bounds=bounds)
    paths = sorted((tmp_path / "out").glob("*.parquet"))
    assert len(paths) > 1
    for path in paths:
        found = pq.ParquetFile(path).metadata
        groups = [found.row_group(n) for n in range(found.num_row_groups)]
        assert all(group.num_rows <= 7 for group in groups)
        assert {g.column(0).compression for g in groups} == {"ZSTD"}
    body = bytearray(paths[0].read_bytes())
    start = pq.ParquetFile(paths[0]).metadata.row_group(0).column(0).data_page_offset
    body[start + 60] ^= 1
    paths[0].write_bytes(bytes(body))
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(paths[0], page_checksum_verification=True)


@given(
    sizes=st.lists(st.integers(0, 40), max_size=30),
    rows=st.integers(1, 9),
    num_bytes=st.integers(1, 200),
    cut=st.integers(1, 30),
)
def test_a_row_group_is_within_its_bounds_or_one_row(
    sizes: list[int], rows: int, num_bytes: int, cut: int
) -> None:
    table = pa.table({"x": pa.array(["x" * size for size in sizes], pa.string())})
    bounds = Bounds(group_rows=rows, group_bytes=num_bytes)
    groups = list(row_groups(iter(table.to_batches(cut)), table.schema, bounds))
    assert [x for group in groups for x in group["x"].to_pylist()] == table["x"].to_pylist()
    for group in groups:
        assert group.num_rows == 1 or (group.num_rows <= rows and group.nbytes <= num_bytes)


def test_equal_datasets_give_equal_bytes(tmp_path: Path, source: Path) -> None:
    for name in "ab":
        export(source / "dataset", tmp_path / name, shape="messages", format="parquet")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("name", ["data-00000-of-00003.arrow", "data-00002-of-00003.arrow"])
def test_a_damaged_shard_is_refused_and_nothing_is_left(
    tmp_path: Path, source: Path, name: str
) -> None:
    path = source / "dataset" / name
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(bytes(body))
    with pytest.raises(DamagedFile, match=name):
        export(source / "dataset", tmp_path / "out", shape="messages", format="parquet")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_a_run_and_its_dataset_are_both_taken(source: Path) -> None:
    assert dataset_directory(source) == dataset_directory(source / "dataset")
    for wrong in (source / "examples", source / "absent"):
        with pytest.raises(ValueError, match=r"neither a finished dataset|not a directory"):
            dataset_directory(wrong)


def test_the_manifest_lists_every_file_of_the_export(tmp_path: Path, source: Path) -> None:
    for shape in SHAPES:
        made = export(source / "dataset", tmp_path / shape, shape=shape, format="jsonl")
        assert read_export(tmp_path / shape) == made
        names = {entry.path for entry in made.listed}
        assert {"export.json", *names} == set(os.listdir(tmp_path / shape))
        assert ("dataset_info.json" in names) == (shape in ("sharegpt", "alpaca"))


def test_the_dataset_of_an_older_version_is_exported(tmp_path: Path) -> None:
    older = dataset_directory(Path(__file__).parents[1] / "older_run" / "RUN")
    rows = list(read_examples(older, checked_manifest(older)))
    for shape in SHAPES:
        export(older, tmp_path / shape, shape=shape, format="parquet")
        assert read(tmp_path / shape, "parquet") == [wanted(row, shape) for row in rows]
