"""A dataset directory that nobody's manifest describes -> encoded examples.

It is what `datasets.Dataset.save_to_disk` leaves, with the columns that other trainers read:
`input_ids`, and `labels` with -100 over the prompt or `num_prompt_tokens`; without either, each
token is trained. `task` and `problem_id` name the rows, if they are there. Nothing tells whether
the ids are those of the model's tokenizer; only that its vocabulary has them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.digests import file_digest
from orca2_gen.run_directory.json_files import read_json
from orca2_gen.run_directory.unpacking import batches_unpacked, check_unpacked
from train.batches import IGNORE_INDEX
from train.examples import ExampleTable


def load_foreign_examples(dataset_dir: Path) -> ExampleTable:
    """The examples of a directory of `save_to_disk`.

    Raises:
        ValueError: it is none, or a row cannot be trained on.
        DamagedFile: a file is not what Arrow wrote.
    """
    files = _files(dataset_dir)
    tables = [_checked(path) for path in files]
    try:
        table = pa.concat_tables(tables, promote_options="default").combine_chunks()
    except pa.ArrowException as error:
        raise ValueError(f"{dataset_dir}: its files have other columns ({error})") from None
    if not len(table):
        raise ValueError(f"{dataset_dir} holds no row; give another training.dataset")
    ids = table.column("input_ids")
    lengths = pc.list_value_length(ids).to_numpy()
    prompts = _prompt_lengths(dataset_dir, table, lengths)
    names = _texts(table, "problem_id") or [f"row {row}" for row in range(len(table))]
    short = np.flatnonzero(np.maximum(prompts, 1) >= lengths)
    if short.size:
        raise ValueError(
            f"{dataset_dir}: {names[short[0]]} has {lengths[short[0]]} tokens, of which "
            f"{prompts[short[0]]} are not trained, which leaves nothing to learn; remove the "
            f"{short.size} of {len(table)} rows like it"
        )
    encoded = pa.table({"input_ids": ids, "num_prompt_tokens": pa.array(prompts)})
    digest = hashlib.sha256("\n".join(file_digest(path) for path in files).encode()).hexdigest()
    return ExampleTable(
        dataset=datasets.Dataset(encoded).with_format("numpy"),
        lengths=tuple(lengths.tolist()),
        names=tuple(names),
        tasks=tuple(_texts(table, "task") or ["foreign"] * len(table)),
        largest_id=int(pc.max(pc.list_flatten(ids)).as_py()),
        digest=digest,
    )


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
                return pa.Table.from_batches(list(_batches(reader, known)), _kept(reader, known))
    except (ValueError, KeyError, pa.ArrowException, OSError) as error:
        fault = " ".join(str(error).split())[:200]
        raise DamagedFile(f"{path} holds no rows to train on: {fault}") from None


def _kept(reader: Any, known: list[str]) -> pa.Schema:
    return pa.schema([reader.schema.field(name) for name in known])


def _batches(reader: Any, known: list[str]) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        batch.validate(full=True)
        kept = batch.select(known)
        for name, column in zip(known, kept.columns, strict=True):
            is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
            flat = pc.list_flatten(column) if is_list else column
            if column.null_count or flat.null_count:
                raise ValueError(f"the column {name!r} has a null")
        smallest = pc.min(pc.list_flatten(kept.column("input_ids"))).as_py()
        if smallest is not None and smallest < 0:
            raise ValueError(f"it holds the token id {smallest}")
        yield kept


def _is_ids(type_: pa.DataType) -> bool:
    is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_)
    return bool(is_list and pa.types.is_signed_integer(type_.value_type))


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


_COLUMNS = {
    "input_ids": ("lists of whole numbers", _is_ids),
    "labels": ("lists of whole numbers", _is_ids),
    "num_prompt_tokens": ("whole numbers", pa.types.is_signed_integer),
    "problem_id": ("texts", _is_text),
    "task": ("texts", _is_text),
}


_MASKS = ("attention_mask", "completion_mask", "assistant_masks")


def _check_columns(schema: pa.Schema) -> None:
    _check_masks(schema.names)
    if "input_ids" not in schema.names:
        raise ValueError(f"expected a column 'input_ids', and it has {', '.join(schema.names)}")
    for name in set(schema.names) & set(_COLUMNS):
        wish, fits = _COLUMNS[name]
        if schema.names.count(name) > 1 or not fits(schema.field(name).type):
            raise ValueError(f"expected one column {name!r} of {wish}")


def _texts(table: pa.Table, name: str) -> list[str]:
    texts: list[str] = table.column(name).to_pylist() if name in table.column_names else []
    return texts


def _check_masks(names: list[str]) -> None:
    """Refuses masks of other trainers that would be needed and are not read."""
    masks = [name for name in _MASKS if name in names]
    if masks and "labels" not in names:
        raise ValueError(
            f"its column {masks[0]!r} says what is not trained, and only labels say so here; save "
            "the rows with labels that have -100 there, without padding"
        )


def _prompt_lengths(dataset_dir: Path, table: pa.Table, lengths: Any) -> Any:
    """The number of first tokens of each row that are not trained.

    Raises:
        ValueError: a row's labels say more than that.
    """
    if "labels" not in table.column_names:
        if "num_prompt_tokens" in table.column_names:
            return table.column("num_prompt_tokens").to_numpy().astype(np.int64)
        return np.zeros(len(table), dtype=np.int64)
    labels = table.column("labels")
    if not np.array_equal(pc.list_value_length(labels).to_numpy(), lengths):
        raise ValueError(f"{dataset_dir}: a row has other numbers of input_ids and labels")
    flat = pc.list_flatten(labels).to_numpy()
    ids = pc.list_flatten(table.column("input_ids")).to_numpy()
    is_trained = flat != IGNORE_INDEX
    starts = np.concatenate([[0], np.cumsum(lengths)])
    trained = np.concatenate([[0], np.cumsum(is_trained)])
    counts = trained[starts[1:]] - trained[starts[:-1]]
    prompts = lengths - counts
    # The trained tokens of a row are its last ones, each labelled with itself.
    place = np.arange(len(flat)) - np.repeat(starts[:-1], lengths)
    expected = place >= np.repeat(prompts, lengths)
    odd = np.flatnonzero((is_trained != expected) | (is_trained & (flat != ids)))
    if odd.size:
        row = int(np.searchsorted(starts, odd[0], side="right")) - 1
        raise ValueError(
            f"{dataset_dir}: row {row} has labels that are not -100 over its first tokens and its "
            "input_ids after them, which is all that this trainer takes; give one answer a row"
        )
    return prompts.astype(np.int64)
