"""A dataset directory -> encoded examples, after a check of its manifest."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orca2_gen.chat import PLAIN, load_chat
from orca2_gen.dataset.manifest import Manifest, checked_manifest
from orca2_gen.dataset.shards import names_in
from orca2_gen.preflight.template import loaded_chat
from orca2_gen.run_directory.arrow_files import DamagedFile, FileEntry
from orca2_gen.run_directory.json_files import read_json
from orca2_gen.run_directory.record_tables import column_with_nulls
from orca2_gen.run_directory.unpacking import check_unpacked
from train.batches import Encoded, encoded


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleTable:
    """The examples of a dataset directory; they stay in the mapped files until asked for."""

    dataset: datasets.Dataset
    """Columns of token ids and of what is trained of them, as numpy."""
    lengths: tuple[int, ...]
    """Tokens per example."""
    names: tuple[str, ...]
    """The examples' names for people."""
    tasks: tuple[str, ...]
    largest_id: int
    digest: str
    """Digest of the manifest, which holds the digests of all files."""

    encoded: Callable[[Mapping[str, Any]], Encoded]
    """A row of these columns -> its example."""

    def __getitem__(self, index: int) -> Encoded:
        return self.encoded(self.dataset[index])


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
    if max_rows_per_task:
        # What is kept is copied, so the texts of the rows are left out first.
        dataset = dataset.select_columns([n for n in dataset.column_names if n in _KEPT])
        dataset = dataset.select(_first_rows(dataset_dir, dataset["task"], max_rows_per_task))
        dataset = dataset.flatten_indices(keep_in_memory=True)
    return _example_table(dataset_dir, dataset, manifest)


_KEPT = ("input_ids", "num_prompt_tokens", "task", "problem_id", "attempt")


def _first_rows(dataset_dir: Path, tasks: Iterable[str], limits: Mapping[str, int]) -> list[int]:
    """The rows to keep, in their order."""
    seen: Counter[str] = Counter()
    kept = []
    for row, task in enumerate(tasks):
        seen[task] += 1
        if seen[task] <= limits.get(task, seen[task]):
            kept.append(row)
    if unknown := sorted(task for task, limit in limits.items() if limit and not seen[task]):
        raise ValueError(
            f"training.max_rows_per_task names {', '.join(unknown)}, but {dataset_dir} has no such "
            f"rows; name tasks among {', '.join(sorted(seen))}"
        )
    if not kept:
        raise ValueError(f"training.max_rows_per_task leaves no row of {dataset_dir}; raise it")
    return kept


def _example_table(
    dataset_dir: Path, dataset: datasets.Dataset, manifest: Manifest
) -> ExampleTable:
    table = dataset.data
    lengths = pc.list_value_length(table.column("input_ids")).to_numpy()
    prompt_lengths = table.column("num_prompt_tokens").to_numpy()
    names = tuple(name for batch in table.to_batches() for name in names_in(batch))
    unlearnable = np.flatnonzero((prompt_lengths < 0) | (np.maximum(prompt_lengths, 1) >= lengths))
    if unlearnable.size:
        first = int(unlearnable[0])
        raise ValueError(
            f"{dataset_dir}: example {names[first]} has {lengths[first]} tokens and "
            f"num_prompt_tokens {prompt_lengths[first]}, which leaves nothing to learn; remove "
            f"the {unlearnable.size} of {len(names)} examples like it from the dataset"
        )
    return ExampleTable(
        dataset=dataset.select_columns(["input_ids", "num_prompt_tokens"]).with_format("numpy"),
        lengths=tuple(lengths.tolist()),
        names=names,
        tasks=tuple(map(sys.intern, table.column("task").to_pylist())),
        largest_id=int(pc.max(pc.list_flatten(table.column("input_ids"))).as_py()),
        digest=manifest.digest,
        encoded=after_prompt,
    )


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
