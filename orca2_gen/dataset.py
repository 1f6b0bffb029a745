"""Committed examples -> one `datasets` directory: shards, manifest, card.

    RUN/dataset/data-00000-of-000NN.arrow  Arrow streams, as `datasets.load_from_disk` maps them
    RUN/dataset/{state.json,dataset_info.json,README.md}
    RUN/dataset/manifest.json              written last: sizes, digests and the proof of erasure

A trainer reads the manifest before it maps anything; see `checked_manifest`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from orca2_gen.chat import Chat
from orca2_gen.erasure import ErasureProof, prove
from orca2_gen.records import Example
from orca2_gen.run_directory.arrow_files import (
    FileEntry,
    check_file,
    read_records,
    write_bytes,
)
from orca2_gen.run_directory.digests import tokenizer_files_digest
from orca2_gen.run_directory.overwriting import make_way, way_is_used
from orca2_gen.run_directory.record_tables import arrow_schema, to_table
from orca2_gen.strategies import Strategies

MANIFEST_VERSION = 1
_LISTS = ("files", "descriptions")
"""Keys of the manifest that list files: shards, and the files that `load_from_disk` also reads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSummary:
    """The figures of a written dataset."""

    directory: str
    rows: int
    shards: int
    input_tokens: int
    trained_tokens: int
    rows_by_task: dict[str, int]
    prompts: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetPlan:
    """The inputs of a dataset; equal plans give equal bytes."""

    examples: tuple[FileEntry, ...]
    tokenizer: str
    """Directory of the student's tokenizer."""
    prompts: str
    examples_per_shard: int
    key: str
    """Key of the examples stage."""
    name: str


Say = Callable[[str], None]
"""Takes a line for people."""


def _silent(line: str) -> None:
    pass


def write_dataset(
    run_dir: Path, plan: DatasetPlan, chat: Chat, strategies: Strategies, say: Say = _silent
) -> DatasetSummary:
    """Writes RUN/dataset, unless it was made from the same plan, and returns its summary.

    Args:
        run_dir: the run's directory.
        plan: the inputs of the dataset.
        chat: the student's, from the plan's directory.
        strategies: the run's.
        say: function that takes a line about files of somebody else that were in the way.

    Raises:
        ValueError: an example is not erased although the plan says so; no manifest is written then.
    """
    root = run_dir / "dataset"
    digest = _digest(plan)
    if (kept := _unchanged(root, digest)) is not None:
        return kept
    make_way(run_dir, say)
    rows_by_task: Counter[str] = Counter()
    input_tokens = trained_tokens = 0
    num_rows = sum(entry.rows for entry in plan.examples)
    num_shards = max(1, -(-num_rows // plan.examples_per_shard))
    examples = _read(run_dir, plan.examples)
    files = []
    for index in range(num_shards):
        shard = list(itertools.islice(examples, plan.examples_per_shard))
        files.append(_write_stream(root, f"data-{index:05d}-of-{num_shards:05d}.arrow", shard))
        rows_by_task.update(example.task for example in shard)
        input_tokens += sum(len(example.input_ids) for example in shard)
        trained_tokens += sum(
            len(example.input_ids) - example.num_prompt_tokens for example in shard
        )
    summary = DatasetSummary(
        directory=str(root),
        rows=num_rows,
        shards=num_shards,
        input_tokens=input_tokens,
        trained_tokens=trained_tokens,
        rows_by_task=dict(sorted(rows_by_task.items())),
        prompts=plan.prompts,
    )
    proof = _proof(root, files, chat, strategies, plan.prompts)
    descriptions = _write_descriptions(root, files, summary, plan.name)
    manifest = {
        "version": MANIFEST_VERSION,
        "plan_digest": digest,
        "examples_key": plan.key,
        "prompts": plan.prompts,
        "proof": dataclasses.asdict(proof) if proof is not None else None,
        "tokenizer_digest": chat.digest,
        "tokenizer_files": tokenizer_files_digest(Path(plan.tokenizer)),
        "files": [dataclasses.asdict(entry) for entry in files],
        "descriptions": [dataclasses.asdict(entry) for entry in descriptions],
        "summary": dataclasses.asdict(dataclasses.replace(summary, directory="dataset")),
    }
    write_bytes(root / "manifest.json", _json(manifest))
    way_is_used(run_dir)
    return summary


def _digest(plan: DatasetPlan) -> str:
    """A hash of the plan without the names of its files."""
    # Names tell drivers and attempts; units count by their content alone.
    contents = tuple(dataclasses.replace(entry, path="") for entry in plan.examples)
    body = dataclasses.asdict(dataclasses.replace(plan, examples=contents))
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def checked_manifest(root: Path) -> dict[str, Any]:
    """The manifest of a dataset directory; every file it lists has the size and SHA-256 it says.

    Raises:
        ValueError: the manifest is absent or of another version, or a file is not what it says.
    """
    path = root / "manifest.json"
    if not path.is_file():
        raise ValueError(
            f"{root} holds no manifest.json: it is not a finished dataset; "
            "run `orca2 run` to the end"
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        version = manifest.get("version")
        listed = [FileEntry(**entry) for key in _LISTS for entry in manifest.get(key, [])]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a manifest of ours ({error}); make the dataset again with `orca2 run`"
        ) from None
    if version != MANIFEST_VERSION:
        raise ValueError(
            f"{path} has version {version}, this program reads {MANIFEST_VERSION}; "
            "make the dataset again with `orca2 run`"
        )
    for entry in listed:
        check_file(root, entry)
    return manifest


def read_examples(root: Path, manifest: dict[str, Any]) -> Iterator[Example]:
    """The examples of a dataset directory, shard by shard, each checked before it is read."""
    for entry in manifest["files"]:
        yield from read_records(root, FileEntry(**entry), Example)


def _read(run_dir: Path, entries: Sequence[FileEntry]) -> Iterator[Example]:
    for entry in entries:
        yield from read_records(run_dir, entry, Example)


def _write_stream(root: Path, name: str, examples: Sequence[Example]) -> FileEntry:
    from datasets import Features

    # Without the features in the schema, `datasets` would guess another type for messages.
    table = to_table(examples, Example)
    schema = Features.from_arrow_schema(arrow_schema(Example)).arrow_schema
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in table.cast(schema).to_batches(max_chunksize=1000):
            writer.write_batch(batch)
    body = sink.getvalue().to_pybytes()
    return _write(root, name, body, rows=len(examples))


def _write(root: Path, name: str, body: bytes, rows: int = 0) -> FileEntry:
    write_bytes(root / name, body)
    digest = hashlib.sha256(body).hexdigest()
    return FileEntry(path=name, rows=rows, bytes=len(body), sha256=digest)


def _proof(
    root: Path, files: Sequence[FileEntry], chat: Chat, strategies: Strategies, prompts: str
) -> ErasureProof | None:
    """The proof over the written files; None if the plan keeps instructions."""
    if prompts != "erased":
        return None
    examples = (example for entry in files for example in read_records(root, entry, Example))
    proof = prove(examples, chat=chat, strategies=strategies)
    if not proof.holds:
        raise ValueError(
            f"{proof.num_examples - proof.num_proved} of {proof.num_examples} examples in {root} "
            "have a prompt other than (cautious message, user text): their strategy is not erased; "
            "no manifest was written"
        )
    return proof


def _write_descriptions(
    root: Path, files: Sequence[FileEntry], summary: DatasetSummary, name: str
) -> list[FileEntry]:
    from datasets import Features
    from huggingface_hub import DatasetCard, DatasetCardData

    features = Features.from_arrow_schema(arrow_schema(Example))
    state: dict[str, Any] = {
        "_data_files": [{"filename": entry.path} for entry in files],
        "_fingerprint": hashlib.sha256(
            "".join(entry.sha256 for entry in files).encode()
        ).hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    about_features = {"features": features.to_dict(), "dataset_name": name}
    descriptions = [
        _write(root, "state.json", _json(state)),
        _write(root, "dataset_info.json", _json(about_features)),
    ]
    rows = "\n".join(f"| {task} | {count} |" for task, count in summary.rows_by_task.items())
    about = {
        "erased": "Every row's system message is the cautious one; manifest.json holds the proof.",
        "instruction_kept": "Rows keep their strategy's instruction: this is an ablation.",
    }[summary.prompts]
    card = DatasetCardData(
        language="en", pretty_name=name, tags=["orca2-gen", "reasoning", "distillation"]
    )
    content = (
        f"---\n{card.to_yaml()}\n---\n\n# {name}\n\nMade by orca2-gen. {about}\n\n"
        f"{summary.rows} rows, {summary.trained_tokens} trained tokens of "
        f"{summary.input_tokens}.\n\n"
        f"| task | rows |\n|---|---|\n{rows}\n"
    )
    write_bytes(root / "README.md", str(DatasetCard(content)).encode())
    return descriptions


def _unchanged(root: Path, plan_digest: str) -> DatasetSummary | None:
    try:
        manifest = checked_manifest(root)
    except ValueError:
        return None
    if manifest["plan_digest"] != plan_digest:
        return None
    way_is_used(root.parent)
    return DatasetSummary(**manifest["summary"] | {"directory": str(root)})


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
