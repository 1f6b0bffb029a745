"""A dataset directory -> encoded examples, after a check of its manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orca2_gen.chat import PLAIN, load_chat
from orca2_gen.dataset.manifest import checked_manifest
from orca2_gen.preflight.template import loaded_chat
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry
from orca2_gen.run_directory.json_files import read_json
from orca2_gen.run_directory.record_tables import column_with_nulls
from orca2_gen.run_directory.row_names import row_name
from orca2_gen.run_directory.unpacking import check_unpacked
from train.batches import Encoded, encoded


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ExampleTable:
    """The examples of a dataset directory; they stay in the mapped files until asked for.

    Shapes: E examples. No Python object is held for an example, since each rank has this table.
    """

    table: pa.Table
    """The mapped files' columns of token ids, of what is trained of them, and of names."""
    rows_E: np.ndarray[Any, np.dtype[Any]]
    """The row of `table` of each example."""
    lengths_E: np.ndarray[Any, np.dtype[Any]]
    """Tokens per example."""
    tasks: tuple[str, ...]
    """The tasks' names."""
    task_E: np.ndarray[Any, np.dtype[Any]]
    """Place in `tasks` of each example's task."""
    largest_id: int
    digest: str
    """Digest of the manifest, which holds the digests of all files."""

    encoded: Callable[[Mapping[str, Any]], Encoded]
    """A row of the columns, names aside -> its example."""

    def __len__(self) -> int:
        return len(self.rows_E)

    def __getitem__(self, index: int) -> Encoded:
        row = int(self.rows_E[index])
        read = [name for name in self.table.column_names if name not in _NAMING]
        return self.encoded({name: _value(self.table.column(name)[row]) for name in read})

    def name(self, index: int) -> str:
        """The name of an example for people."""
        return name_of_row(self.table, int(self.rows_E[index]))


_NAMING = ("task", "problem_id", "attempt")
"""Columns that name a row."""


def _value(scalar: pa.Scalar) -> Any:
    """A number, or the values of a list as numpy."""
    if isinstance(scalar, pa.ListScalar):
        return scalar.values.to_numpy(zero_copy_only=False)
    return scalar.as_py()


def name_of_row(table: pa.Table, row: int) -> str:
    """The name for people of a row of a table, which may have none."""
    if "problem_id" not in table.column_names:
        return f"row {row}"
    attempt = table.column("attempt")[row].as_py() if "attempt" in table.column_names else 0
    return row_name(table.column("problem_id")[row].as_py(), attempt)


def tasks_of(column: pa.ChunkedArray) -> tuple[tuple[str, ...], np.ndarray[Any, np.dtype[Any]]]:
    """The names in a column of tasks, and the place among them of each of its rows."""
    encoded_column = pc.dictionary_encode(column).combine_chunks()
    return tuple(encoded_column.dictionary.to_pylist()), encoded_column.indices.to_numpy()


def after_prompt(row: Mapping[str, Any]) -> Encoded:
    """The example of a row whose column num_prompt_tokens says where its answer begins."""
    return encoded(row["input_ids"], int(row["num_prompt_tokens"]))


def load_examples(
    dataset_dir: Path,
    *,
    prompts: str,
    model_dir: Path,
    max_rows_per_task: Mapping[str, int] = MappingProxyType({}),
) -> ExampleTable:
    """The examples of a dataset directory.

    Args:
        dataset_dir: written by `dataset.write_dataset`, or by anyone with such a manifest.
        prompts: value that the manifest must have: erased, instruction_kept or foreign.
        model_dir: the model to train; its tokenizer must be the one that encoded the examples.
        max_rows_per_task: task -> number of its first rows to keep; other tasks are kept whole.

    Raises:
        ValueError: the manifest is missing or has other values, a file differs from it, or an
            example has no token to learn.
    """
    manifest = checked_manifest(dataset_dir)
    if manifest.prompts != prompts:
        raise ValueError(
            f"{dataset_dir / 'manifest.json'}: prompts is {manifest.prompts!r} and training "
            f"expects {prompts!r}; make the dataset again, or set training.prompts"
        )
    chat = loaded_chat("model", str(model_dir), manifest.rendering or PLAIN, load_chat)
    digest = chat.undated_digest if manifest.rendering is None else chat.digest
    if manifest.tokenizer_digest != digest:
        raise ValueError(
            f"{dataset_dir} was encoded with another tokenizer or chat template "
            f"({manifest.tokenizer_digest[:12]}) than that of {model_dir} ({digest[:12]}); "
            f"train the model that the dataset was made for, or make it again for this one"
        )
    for entry in manifest.files:
        _check_shard(dataset_dir, entry)
    _check_mapped_files(dataset_dir, {entry.path for entry in manifest.files})
    try:
        dataset = datasets.load_from_disk(str(dataset_dir))
    except Exception as error:  # of a state.json or dataset_info.json that the manifest omits
        raise ValueError(
            f"{dataset_dir} cannot be opened by datasets.load_from_disk "
            f"({' '.join(str(error).split())[:200]}); make the dataset again"
        ) from None
    listed = sum(entry.rows for entry in manifest.files)
    if len(dataset) != listed or not len(dataset):
        raise ValueError(
            f"{dataset_dir} holds {len(dataset)} examples and its manifest lists {listed}; "
            f"make it again, and check that it is not empty"
        )
    return example_table(
        dataset_dir, dataset.data, digest=manifest.digest, max_rows_per_task=max_rows_per_task
    )


def example_table(
    dataset_dir: Path,
    columns: Any,
    *,
    digest: str,
    max_rows_per_task: Mapping[str, int] = MappingProxyType({}),
) -> ExampleTable:
    """The examples of a dataset's columns, none of which is copied.

    Args:
        dataset_dir: names the dataset in an error.
        columns: an Arrow table, or that of `datasets`.
        digest: digest of the dataset's manifest.
        max_rows_per_task: task -> number of its first rows to keep; other tasks are kept whole.

    Raises:
        ValueError: an example has no token to learn, or no row is left.
    """
    known = ("input_ids", "num_prompt_tokens", *_NAMING)
    names = [name for name in known if name in columns.column_names]
    table = pa.table({name: columns.column(name) for name in names})
    tasks, task_E = tasks_of(table.column("task"))
    rows_E = np.arange(len(table))
    if max_rows_per_task:
        rows_E = _first_rows(dataset_dir, tasks, task_E, max_rows_per_task)
    lengths_E = pc.list_value_length(table.column("input_ids")).to_numpy()[rows_E]
    prompts_E = table.column("num_prompt_tokens").to_numpy()[rows_E]
    made = ExampleTable(
        table=table,
        rows_E=rows_E,
        lengths_E=lengths_E,
        tasks=tasks,
        task_E=task_E[rows_E],
        largest_id=_largest_id(table.column("input_ids"), rows_E),
        digest=digest,
        encoded=after_prompt,
    )
    unlearnable = np.flatnonzero((prompts_E < 0) | (np.maximum(prompts_E, 1) >= lengths_E))
    if unlearnable.size:
        first = int(unlearnable[0])
        raise ValueError(
            f"{dataset_dir}: example {made.name(first)} has {lengths_E[first]} tokens and "
            f"num_prompt_tokens {prompts_E[first]}, which leaves nothing to learn; remove "
            f"the {unlearnable.size} of {len(made)} examples like it from the dataset"
        )
    return made


def _first_rows(
    dataset_dir: Path, tasks: Sequence[str], task_R: Any, limits: Mapping[str, int]
) -> np.ndarray[Any, np.dtype[Any]]:
    """The rows to keep, in their order; task_R is the place in `tasks` of each row's task."""
    if unknown := sorted(task for task, limit in limits.items() if limit and task not in tasks):
        raise ValueError(
            f"training.max_rows_per_task names {', '.join(unknown)}, but {dataset_dir} has no such "
            f"rows; name tasks among {', '.join(sorted(tasks))}"
        )
    is_kept_R = np.ones(len(task_R), dtype=bool)
    for task in limits.keys() & set(tasks):
        rows = np.flatnonzero(task_R == tasks.index(task))
        is_kept_R[rows[limits[task] :]] = False
    if not is_kept_R.any():
        raise ValueError(f"training.max_rows_per_task leaves no row of {dataset_dir}; raise it")
    return np.flatnonzero(is_kept_R)


def _largest_id(ids: pa.ChunkedArray, rows_E: Any) -> int:
    """The largest token id of some rows, chunk by chunk, since what is taken is a copy."""
    largest, first = -1, 0
    for chunk in ids.chunks:
        start, end = np.searchsorted(rows_E, [first, first + len(chunk)])
        taken = chunk if end - start == len(chunk) else chunk.take(rows_E[start:end] - first)
        first += len(chunk)
        own = pc.max(taken.flatten()).as_py()
        largest = largest if own is None else max(largest, own)  # rows may be empty
    return largest


def _check_shard(dataset_dir: Path, entry: FileEntry) -> None:
    """Checks that no value of a shard, whoever wrote it, is beyond what training can read.

    A digest that fits says only that the shard is what the manifest's writer meant; Arrow crashes
    on an offset that points elsewhere. The shard is mapped, so only one batch at a time is held.

    Raises:
        DamagedFile: a value is; the line names the shard.
    """
    path = dataset_dir / entry.path
    try:
        with pa.memory_map(str(path)) as mapped:
            body = mapped.read_buffer()
            check_unpacked(body, entry.rows)
            with pa.ipc.open_stream(body) as reader:
                _check_columns(reader.schema)
                for batch in reader:
                    batch.validate(full=True)
                    columns = pa.Table.from_batches([batch]).select(list(_COLUMNS))
                    if name := column_with_nulls(columns):
                        raise ValueError(f"the column {name!r} has a null")
                    smallest = pc.min(pc.list_flatten(batch.column("input_ids"))).as_py()
                    if smallest is not None and smallest < 0:
                        raise ValueError(f"it holds the token id {smallest}")
    except (ValueError, KeyError, pa.ArrowException, OSError) as error:
        fault = " ".join(str(error).split())[:200]
        raise DamagedFile(
            f"{path} is no shard of examples: {fault}; make the dataset again"
        ) from None


def _check_columns(schema: pa.Schema) -> None:
    for name, (wish, fits) in _COLUMNS.items():
        places = schema.get_all_field_indices(name)
        if len(places) != 1 or not fits(schema.field(places[0]).type):
            raise ValueError(f"expected one column {name!r} of {wish}")


def _is_ids(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) and pa.types.is_signed_integer(type_.value_type))


_COLUMNS = {
    "input_ids": ("lists of whole numbers", _is_ids),
    "num_prompt_tokens": ("whole numbers", pa.types.is_signed_integer),
    "problem_id": ("texts", pa.types.is_string),
    "task": ("texts", pa.types.is_string),
}
"""Column that training reads -> its type, in words and as a test."""


def _check_mapped_files(dataset_dir: Path, listed: set[str]) -> None:
    """Refuses a state.json that lets `datasets` map a file that is not listed and checked."""
    path = dataset_dir / "state.json"
    try:
        state = read_json(path)
        named = [data_file["filename"] for data_file in state["_data_files"]]
    except (FileNotFoundError, DamagedFile, KeyError, TypeError) as error:
        raise DamagedFile(
            f"{path} lists no files of a dataset ({error!r}); make it again"
        ) from None
    for name in named:
        if name not in listed or named.count(name) > 1:
            raise ValueError(
                f"{path} names {name!r}, which manifest.json does not list, or names it twice; "
                "make the dataset again"
            )
