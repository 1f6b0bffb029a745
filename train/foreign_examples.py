"""A dataset directory that nobody's manifest describes -> encoded examples.

It is what `datasets.Dataset.save_to_disk` leaves, with the columns that other trainers read:
`input_ids` and what is trained of them: `labels` with -100 elsewhere, or the masks of TRL
(`completion_mask`, `assistant_masks`), or `num_prompt_tokens`; without any of these, each token.
Padding, which an `attention_mask` tells, is taken out. `task` and `problem_id` name the rows, if
they are there. Nothing tells whether the ids are those of the model's tokenizer; only that its
vocabulary has them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.digests import file_digest
from orca2_gen.run_directory.json_files import read_json
from orca2_gen.run_directory.unpacking import batches_unpacked, check_unpacked
from train.batches import IGNORE_INDEX, Encoded
from train.examples import ExampleTable, name_of_row, tasks_of

_PADDING_MASK = "attention_mask"
_MASKS = ("completion_mask", "assistant_masks")
_PACKED = ("seq_lengths", "position_ids", "cu_seq_lens", "cu_seqlens", "seq_idx", "segment_ids")
"""Columns of rows that hold several examples, each of which must not see the others."""
_TRAINED = ("labels", *_MASKS, "num_prompt_tokens")
"""Columns that say what is trained; labels alone do, if they are there."""


def load_foreign_examples(dataset_dir: Path) -> ExampleTable:
    """The examples of a directory of `save_to_disk`.

    Raises:
        ValueError: it is none, or a row cannot be trained on.
        DamagedFile: a file is not what Arrow wrote.
    """
    files = _files(dataset_dir)
    tables = [_checked(path) for path in files]
    for path, table in zip(files, tables, strict=True):
        if table.schema != tables[0].schema:
            raise ValueError(
                f"{dataset_dir}: {path.name} has other columns or types than {files[0].name}; save "
                "the dataset again"
            )
    table = pa.concat_tables(tables)  # still the mapped files
    if not len(table):
        raise ValueError(f"{dataset_dir} holds no row; give another training.dataset")
    lengths_E, num_labels_E, largest_id = _figures(dataset_dir, table)
    unlearnable = np.flatnonzero(num_labels_E == 0)
    if unlearnable.size:
        first = int(unlearnable[0])
        raise ValueError(
            f"{dataset_dir}: {name_of_row(table, first)} has {lengths_E[first]} tokens, of which "
            f"none after the first is trained, which leaves nothing to learn; remove the "
            f"{unlearnable.size} of {len(table)} rows like it"
        )
    digest = hashlib.sha256("\n".join(file_digest(path) for path in files).encode()).hexdigest()
    has_tasks = "task" in table.column_names
    usual = pa.chunked_array([pa.repeat("foreign", len(table))])
    tasks, task_E = tasks_of(table.column("task") if has_tasks else usual)
    return ExampleTable(
        table=table,
        rows_E=np.arange(len(table)),
        lengths_E=lengths_E,
        tasks=tasks,
        task_E=task_E,
        largest_id=largest_id,
        digest=digest,
        encoded=example_of,
    )


def example_of(row: Mapping[str, Any]) -> Encoded:
    """The example of a row with any of the columns that are read."""
    ids = np.asarray(row["input_ids"], dtype=np.int64)
    is_token = np.asarray(row.get(_PADDING_MASK, np.ones(len(ids)))) == 1
    is_trained = _is_trained(row, np.cumsum(is_token) - is_token)[is_token]
    is_trained[:1] = False
    ids = ids[is_token]
    return Encoded(input_ids=ids, labels=np.where(is_trained, ids, IGNORE_INDEX))


def _is_trained(columns: Mapping[str, Any], place: Any) -> Any:
    """Whether each token is trained, first tokens and padding aside.

    Args:
        columns: a value for each token, or one for all of them.
        place: number of tokens before each one in its row, padding aside.
    """
    if "labels" in columns:
        return columns["labels"] != IGNORE_INDEX
    is_trained = np.ones(len(place), dtype=bool)
    for name in set(_MASKS) & columns.keys():
        is_trained &= columns[name] == 1
    if "num_prompt_tokens" in columns:
        is_trained &= place >= columns["num_prompt_tokens"]
    return is_trained


def _files(dataset_dir: Path) -> list[Path]:
    """The Arrow files of the directory, in their order."""
    path = dataset_dir / "state.json"
    try:
        named = [str(each["filename"]) for each in read_json(path)["_data_files"]]
    except (FileNotFoundError, DamagedFile, KeyError, TypeError):
        raise ValueError(
            f"{dataset_dir} is no directory of datasets.Dataset.save_to_disk: it has no state.json "
            "that lists its files; save the dataset so, or give another training.dataset"
        ) from None
    for name in named:
        if Path(name).name != name or not (dataset_dir / name).is_file():
            raise ValueError(f"{path} names {name!a}, which is no file beside it; save it again")
    if not named:
        raise ValueError(f"{path} lists no file; give another training.dataset")
    return [dataset_dir / name for name in named]


def _checked(path: Path) -> pa.Table:
    """The columns of a file that are read, none of whose values is beyond what can be read.

    Raises:
        DamagedFile: one is.
    """
    try:
        with pa.memory_map(str(path)) as mapped:
            body = mapped.read_buffer()
            check_unpacked(body, sum(batch.rows for batch in batches_unpacked(body)))
            with pa.ipc.open_stream(body) as reader:
                _check_columns(reader.schema)
                known = [name for name in _COLUMNS if name in reader.schema.names]
                schema = pa.schema([reader.schema.field(name) for name in known])
                return pa.Table.from_batches(list(_batches(reader, known)), schema)
    except (ValueError, KeyError, pa.ArrowException, OSError) as error:
        fault = " ".join(str(error).split())[:200]
        raise DamagedFile(f"{path} holds no rows to train on: {fault}") from None


def _batches(reader: Any, known: list[str]) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        batch.validate(full=True)
        kept = batch.select(known)
        for name, column in zip(known, kept.columns, strict=True):
            if column.null_count or (_is_list(column.type) and pc.list_flatten(column).null_count):
                raise ValueError(f"the column {name!r} has a null")
        yield kept


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_))


def _is_ids(type_: pa.DataType) -> bool:
    return _is_list(type_) and bool(pa.types.is_integer(type_.value_type))


def _is_mask(type_: pa.DataType) -> bool:
    return _is_ids(type_) or (_is_list(type_) and bool(pa.types.is_boolean(type_.value_type)))


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


_COLUMNS = {
    "input_ids": ("lists of whole numbers", _is_ids),
    "labels": ("lists of whole numbers", _is_ids),
    "num_prompt_tokens": ("whole numbers", pa.types.is_integer),
    _PADDING_MASK: ("lists of 0 and 1", _is_mask),
    **dict.fromkeys(_MASKS, ("lists of 0 and 1", _is_mask)),
    "problem_id": ("texts", _is_text),
    "task": ("texts", _is_text),
}


def _check_columns(schema: pa.Schema) -> None:
    if "input_ids" not in schema.names:
        raise ValueError(f"expected a column 'input_ids', and it has {', '.join(schema.names)}")
    if packed := [name for name in _PACKED if name in schema.names]:
        raise ValueError(
            f"its column {packed[0]!r} says that a row holds several examples, packed together; "
            "save the rows before they are packed (packing is done here), or drop the column if "
            "each row is one example"
        )
    for name in set(schema.names) & set(_COLUMNS):
        wish, fits = _COLUMNS[name]
        if schema.names.count(name) > 1 or not fits(schema.field(name).type):
            raise ValueError(
                f"expected one column {name!r} of {wish}, and it has {schema.field(name).type}; "
                "save it again, for example by Dataset.cast"
                if schema.names.count(name) == 1
                else f"expected one column {name!r} of {wish}, and it has several"
            )


def _figures(dataset_dir: Path, table: pa.Table) -> tuple[Any, Any, int]:
    """The tokens of each row, how many of them are trained, and the largest id of all.

    One batch at a time, since flat columns of every rank would be all of the dataset in memory.

    Raises:
        ValueError: a column says of a row what no trainer can do.
    """
    lengths, num_labels, largest, num_rows = [], [], -1, 0
    for batch in table.to_batches():
        start = num_rows

        def name_of(row: int, start: int = start) -> str:
            return name_of_row(table, start + row)

        flat, row_of = _flat_columns(dataset_dir, batch, name_of)
        is_token = flat.get(_PADDING_MASK, np.ones(len(row_of))) == 1
        _check_values(dataset_dir, flat, row_of, is_token, name_of)
        tokens = np.bincount(row_of[is_token], minlength=len(batch))
        place = np.cumsum(is_token) - is_token - (np.cumsum(tokens) - tokens)[row_of]
        # The first token of a row has no loss, since nothing predicts it.
        is_trained = _is_trained(flat, place) & is_token & (place > 0)
        lengths.append(tokens)
        num_labels.append(np.bincount(row_of[is_trained], minlength=len(batch)))
        largest = max(largest, int(flat["input_ids"][is_token].max(initial=-1)))
        num_rows += len(batch)
    return np.concatenate(lengths), np.concatenate(num_labels), largest


def _flat_columns(
    dataset_dir: Path, batch: pa.RecordBatch, name_of: Callable[[int], str]
) -> tuple[dict[str, Any], Any]:
    """A value of each column for each token of a batch, and the row of each token."""
    sizes = pc.list_value_length(batch.column("input_ids")).to_numpy()
    row_of = np.repeat(np.arange(len(sizes)), sizes)
    flat = {}
    for name in ("input_ids", *_TRAINED, _PADDING_MASK):
        if name not in batch.schema.names:
            continue
        if name == "num_prompt_tokens":
            flat[name] = batch.column(name).to_numpy()[row_of]
            continue
        others = pc.list_value_length(batch.column(name)).to_numpy()
        if (odd := np.flatnonzero(others != sizes)).size:
            raise ValueError(
                f"{dataset_dir}: {name_of(int(odd[0]))} has {sizes[odd[0]]} input_ids and "
                f"{others[odd[0]]} values of {name}; give one of them for each token"
            )
        flat[name] = pc.list_flatten(batch.column(name)).to_numpy(zero_copy_only=False)
    return flat, row_of


def _check_values(
    dataset_dir: Path,
    flat: Mapping[str, Any],
    row_of: Any,
    is_token: Any,
    name_of: Callable[[int], str],
) -> None:
    """Checks what the columns say of each token; of padding they may say anything.

    Raises:
        ValueError: a value is none that its column may have.
    """
    ids = flat["input_ids"]
    for name, values in flat.items():
        if name == "input_ids":
            is_odd, expected = ids < 0, "0 or more"
        elif name == "labels":
            is_odd = (values != IGNORE_INDEX) & (values != ids)
            expected = "-100 or the token itself"
        elif name == "num_prompt_tokens":
            is_odd, expected = values < 0, "0 or more"
        else:
            is_odd, expected = (values != 0) & (values != 1), "0 or 1"
        is_odd = is_odd if name == _PADDING_MASK else is_odd & is_token
        if (odd := np.flatnonzero(is_odd)).size:
            raise ValueError(
                f"{dataset_dir}: {name_of(int(row_of[odd[0]]))} has {name} {values[odd[0]]} at a "
                f"token, expected {expected}"
            )
