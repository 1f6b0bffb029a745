"""Dataset directories of others: what is trained of them, and what is refused."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.run_directory.arrow_files import DamagedFile
from tests.train.test_stages import PLAN, run
from train.batches import IGNORE_INDEX, Encoded
from train.foreign_examples import load_foreign_examples
from train.plan import Execution
from train.sft import train_student
from train.stages import examples_in

ROWS = {"input_ids": [[5, 6, 7, 8], [9, 4], [3, 3, 3]]}


def saved(folder: Path, columns: dict[str, Any]) -> Path:
    datasets.Dataset.from_dict(columns).save_to_disk(str(folder))
    return folder


@pytest.mark.parametrize(
    ("columns", "labels"),
    [
        ({}, [[6, 7, 8], [4], [3, 3]]),
        ({"num_prompt_tokens": [2, 1, 0]}, [[7, 8], [4], [3, 3]]),
        ({"labels": [[-100, -100, 7, 8], [-100, 4], [3, 3, 3]]}, [[7, 8], [4], [3, 3]]),
        ({"labels": [[-100, 6, -100, 8], [9, 4], [3, 3, -100]]}, [[6, 8], [4], [3]]),
        ({"completion_mask": [[0, 0, 1, 1], [0, 1], [1, 1, 1]]}, [[7, 8], [4], [3, 3]]),
        ({"assistant_masks": [[0, 1, 0, 1], [1, 1], [0, 0, 1]]}, [[6, 8], [4], [3]]),
        (
            {
                "completion_mask": [[0, 1, 1, 1], [0, 1], [1, 1, 1]],
                "assistant_masks": [[1, 1, 0, 1], [1, 1], [0, 0, 1]],
            },
            [[6, 8], [4], [3]],
        ),
        (
            {
                "labels": [[-100, 6, -100, 8], [-100, 4], [3, 3, 3]],
                "completion_mask": [[0, 0, 0, 0], [0, 0], [0, 0, 0]],
                "text": ["a", "b", "c"],
            },
            [[6, 8], [4], [3, 3]],
        ),
    ],
)
def test_rows_are_read_with_what_is_trained_of_them(
    tmp_path: Path, columns: dict[str, Any], labels: list[list[int]]
) -> None:
    table = load_foreign_examples(saved(tmp_path / "d", ROWS | columns))
    assert [table[row].input_ids.tolist() for row in range(3)] == ROWS["input_ids"]
    assert [labels_of(table[row]) for row in range(3)] == labels
    assert table.lengths_E.tolist() == [4, 2, 3] and table.largest_id == 9
    assert [table.name(row) for row in range(3)] == ["row 0", "row 1", "row 2"]
    assert table.tasks == ("foreign",) and table.task_E.tolist() == [0, 0, 0]


def labels_of(example: Encoded) -> list[int]:
    return [label for label in example.labels.tolist() if label != IGNORE_INDEX]


def test_padding_on_either_side_is_taken_out(tmp_path: Path) -> None:
    columns = {
        "input_ids": [[0, 0, 7, 8], [9, 4, 0, 0]],
        "attention_mask": [[0, 0, 1, 1], [1, 1, 0, 0]],
        "labels": [[-100, -100, 7, 8], [-100, 4, -100, -100]],
    }
    table = load_foreign_examples(saved(tmp_path / "d", columns))
    assert [table[row].input_ids.tolist() for row in range(2)] == [[7, 8], [9, 4]]
    assert [labels_of(table[row]) for row in range(2)] == [[8], [4]]
    assert table.lengths_E.tolist() == [2, 2]


def test_padding_may_have_any_id_and_label_and_is_no_part_of_a_prompt(tmp_path: Path) -> None:
    columns = {
        "input_ids": [[32000, 32000, 7, 8, 9], [9, 4, -1, -1, -1]],
        "attention_mask": [[0, 0, 1, 1, 1], [1, 1, 0, 0, 0]],
        "num_prompt_tokens": [2, 1],
    }
    table = load_foreign_examples(saved(tmp_path / "d", columns))
    assert [labels_of(table[row]) for row in range(2)] == [[9], [4]]
    assert table.largest_id == 9
    labels = {"labels": [[0, 0, -100, 8, 9], [-100, 4, 0, 0, 0]]}
    table = load_foreign_examples(saved(tmp_path / "e", columns | labels))
    assert [labels_of(table[row]) for row in range(2)] == [[8, 9], [4]]


MASK = st.lists(st.booleans(), min_size=6, max_size=6)


@given(
    lengths=st.lists(st.integers(2, 6), min_size=1, max_size=8),
    columns=st.sets(
        st.sampled_from(["labels", "completion_mask", "assistant_masks", "attention_mask"])
    ),
    data=st.data(),
)
def test_a_row_has_the_tokens_and_labels_that_are_counted(
    lengths: list[int], columns: set[str], data: st.DataObject
) -> None:
    ids = [[data.draw(st.integers(0, 9)) for _ in range(length)] for length in lengths]
    made: dict[str, Any] = {"input_ids": ids}
    for name in sorted(columns):
        masks = [data.draw(MASK)[: len(row)] for row in ids]
        no = -100 if name == "labels" else 0
        made[name] = [
            [
                (token if name == "labels" else 1) if kept else no
                for token, kept in zip(*pair, strict=True)
            ]
            for pair in zip(ids, masks, strict=True)
        ]
    expected = [expected_of(made, row) for row in range(len(ids))]
    with tempfile.TemporaryDirectory() as folder:
        directory = saved(Path(folder) / "d", made)
        if not all(any(token >= 0 for token in labels) for _, labels in expected):
            with pytest.raises(ValueError, match="leaves nothing to learn"):
                load_foreign_examples(directory)
            return
        table = load_foreign_examples(directory)
        for index, (tokens, labels) in enumerate(expected):
            assert table[index].input_ids.tolist() == tokens
            assert table[index].labels.tolist() == labels
            assert table.lengths_E[index] == len(tokens)


def expected_of(columns: dict[str, Any], row: int) -> tuple[list[int], list[int]]:
    """The tokens and labels of a row, token by token."""
    tokens: list[int] = []
    labels: list[int] = []
    for place, token in enumerate(columns["input_ids"][row]):
        if "attention_mask" in columns and not columns["attention_mask"][row][place]:
            continue
        is_trained = len(tokens) > 0
        if "labels" in columns:
            is_trained &= columns["labels"][row][place] != -100
        else:
            masks = {"completion_mask", "assistant_masks"} & columns.keys()
            is_trained &= all(columns[mask][row][place] for mask in masks)
        tokens.append(token)
        labels.append(token if is_trained else -100)
    return tokens, labels


def test_rows_keep_their_names_and_tasks(tmp_path: Path) -> None:
    named = {"problem_id": ["a", "b", "c"], "task": ["x", "y", "x"]}
    table = load_foreign_examples(saved(tmp_path / "d", ROWS | named))
    assert [table.name(row) for row in range(3)] == ["a", "b", "c"]
    assert table.tasks == ("x", "y") and table.task_E.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"input_ids": [[1], [2, 3], [4]]}, "leaves nothing to learn; remove the 2 of 3 rows"),
        ({"input_ids": [[], [2, 3], [4, 5]]}, "row 0 has 0 tokens, of which none after the first"),
        ({"labels": [[5, 6, 7, 8], [9, 5], [3, 3, 3]]}, "row 1 has labels 5 at a token, expected"),
        ({"labels": [[5, -1, 7, 8], [9, 4], [3, 3, 3]]}, "row 0 has labels -1 at a token, expect"),
        ({"labels": [[5, 6, 7], [9, 4, 1], [3, 3, 3]]}, "row 0 has 4 input_ids and 3 values of la"),
        ({"labels": [[5, -100, -100, -100], [9, 4], [3, 3, 3]]}, "remove the 1 of 3 rows like it"),
        ({"num_prompt_tokens": [2, 1, 4]}, "row 2 has 3 tokens, of which none after the first"),
        ({"num_prompt_tokens": [2, -1, 1]}, "row 1 has num_prompt_tokens -1 at a token, expected"),
        ({"position_ids": [[0, 1, 0, 1], [0, 1], [0, 1, 2]]}, "'position_ids' says that a row hol"),
        ({"seq_lengths": [[2, 2], [2], [3]]}, "'seq_lengths' says that a row holds several"),
        (
            {"input_ids": [[1, 2], [3, -1], [4, 4]]},
            "row 1 has input_ids -1 at a token, expected 0 or more",
        ),
        ({"input_ids": [[1, None], [3, 1], [4, 4]]}, "the column 'input_ids' has a null"),
        ({"input_ids": ["a", "b", "c"]}, "expected one column 'input_ids' of lists of whole"),
        ({"attention_mask": [[1, 1, 0, 2], [1, 1], [1, 1, 1]]}, "row 0 has attention_mask 2 at a"),
        ({"completion_mask": [[0, 0, 1], [0, 1], [1, 1, 1]]}, "4 input_ids and 3 values of compl"),
        (
            {"completion_mask": ["a", "b", "c"]},
            "expected one column 'completion_mask' of lists of 0",
        ),
        ({"task": [1, 2, 3]}, "expected one column 'task' of texts"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_one_line(
    tmp_path: Path, columns: dict[str, Any], words: str
) -> None:
    with pytest.raises((ValueError, DamagedFile), match=words) as refused:
        load_foreign_examples(saved(tmp_path / "d", ROWS | columns))
    assert "\n" not in str(refused.value) and str(tmp_path / "d") in str(refused.value)


def test_rows_by_task_cannot_be_counted_in_them(tmp_path: Path, model_dir: Path) -> None:
    with pytest.raises(ValueError, match="max_rows_per_task counts rows of datasets with a"):
        examples_in(
            saved(tmp_path / "d", ROWS),
            prompts="foreign",
            model_dir=model_dir,
            max_rows_per_task={"foreign": 1},
        )


def test_files_with_other_columns_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "d", ROWS)
    other = saved(tmp_path / "other", ROWS | {"labels": ROWS["input_ids"]})
    (other / "data-00000-of-00001.arrow").rename(folder / "more.arrow")
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"].append({"filename": "more.arrow"})
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match=r"more\.arrow has other columns or types than data-0"):
        load_foreign_examples(folder)


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no directory of datasets.Dataset.save_to_disk"):
        load_foreign_examples(tmp_path)


def test_files_elsewhere_are_not_read(tmp_path: Path) -> None:
    folder = saved(tmp_path / "d", ROWS)
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"][0]["filename"] = "../d/data-00000-of-00001.arrow"
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match="which is no file beside it"):
        load_foreign_examples(folder)


def test_a_foreign_dataset_trains_a_student(
    tmp_path: Path, model_dir: Path, dataset_dir: Path
) -> None:
    own = datasets.load_from_disk(str(dataset_dir)).select_columns(["input_ids", "labels"])
    own.save_to_disk(str(tmp_path / "foreign"))
    student = train_student(
        PLAN,
        Execution(),
        model_dir=model_dir,
        dataset_dir=tmp_path / "foreign",
        output_dir=tmp_path / "student",
        metrics_file=tmp_path / "metrics.jsonl",
        prompts="foreign",
    )
    run(tmp_path / "own", model_dir, dataset_dir, PLAN)
    assert student.num_examples == 60
    curves = [
        [json.loads(line)["loss"] for line in file.read_text().splitlines()]
        for file in (tmp_path / "metrics.jsonl", tmp_path / "own/metrics.jsonl")
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-6)
