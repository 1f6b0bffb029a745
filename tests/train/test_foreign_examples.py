"""Dataset directories of others: what is trained of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from orca2_gen.run_directory.arrow_files import DamagedFile
from tests.train.test_stages import PLAN, run
from train.foreign_examples import load_foreign_examples
from train.plan import Execution
from train.sft import train_student
from train.stages import examples_in

ROWS = {"input_ids": [[5, 6, 7, 8], [9, 4], [3, 3, 3]]}


def saved(folder: Path, columns: dict[str, Any]) -> Path:
    datasets.Dataset.from_dict(columns).save_to_disk(str(folder))
    return folder


@pytest.mark.parametrize(
    ("columns", "prompts"),
    [
        ({}, [0, 0, 0]),
        ({"num_prompt_tokens": [2, 1, 0]}, [2, 1, 0]),
        ({"labels": [[-100, -100, 7, 8], [-100, 4], [3, 3, 3]]}, [2, 1, 0]),
        (
            {"labels": [[-100, -100, 7, 8], [-100, 4], [3, 3, 3]], "text": ["a", "b", "c"]},
            [2, 1, 0],
        ),
    ],
)
def test_rows_are_read_with_what_is_trained_of_them(
    tmp_path: Path, columns: dict[str, Any], prompts: list[int]
) -> None:
    table = load_foreign_examples(saved(tmp_path / "d", ROWS | columns))
    assert [table[row].input_ids.tolist() for row in range(3)] == ROWS["input_ids"]
    assert [table[row].num_prompt_tokens for row in range(3)] == prompts
    assert table.lengths == (4, 2, 3) and table.largest_id == 9
    assert table.names == ("row 0", "row 1", "row 2") and set(table.tasks) == {"foreign"}


def test_rows_keep_their_names_and_tasks(tmp_path: Path) -> None:
    named = {"problem_id": ["a", "b", "c"], "task": ["x", "y", "x"]}
    table = load_foreign_examples(saved(tmp_path / "d", ROWS | named))
    assert table.names == ("a", "b", "c") and table.tasks == ("x", "y", "x")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"input_ids": [[1], [2, 3], [4]]}, "leaves nothing to learn; remove the 2 of 3 rows"),
        ({"labels": [[5, -100, 7, 8], [9, 4], [3, 3, 3]]}, "row 0 has labels that are not -100"),
        ({"labels": [[5, 6, 7, 8], [9, 5], [3, 3, 3]]}, "row 1 has labels that are not -100"),
        ({"labels": [[5, 6, 7], [9, 4, 1], [3, 3, 3]]}, "other numbers of input_ids and labels"),
        ({"input_ids": [[1, 2], [3, -1], [4, 4]]}, "it holds the token id -1"),
        ({"input_ids": [[1, None], [3, 1], [4, 4]]}, "the column 'input_ids' has a null"),
        ({"input_ids": ["a", "b", "c"]}, "expected one column 'input_ids' of lists of whole"),
        ({"attention_mask": [[1, 1, 0, 0], [1, 1], [1, 1, 1]]}, "its column 'attention_mask' says"),
        ({"completion_mask": [[0, 0, 1, 1], [0, 1], [1, 1, 1]]}, "its column 'completion_mask'"),
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
