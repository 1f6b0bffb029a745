"""A written dataset against the rows that it was made of: shards, descriptions, manifest, proof."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orca2_gen.chat import Chat, load_chat, rendered_texts
from orca2_gen.chat.rendered_texts import TEXT_KEYS
from orca2_gen.config.arguments import engine_rendering
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.dataset.card import card_of
from orca2_gen.dataset.manifest import Manifest, read_manifest
from orca2_gen.dataset.proof import is_erased, is_told_cautiously, prove
from orca2_gen.dataset.shards import state_of
from orca2_gen.dataset.write import RowCounts
from orca2_gen.prompts import conversation_roles
from orca2_gen.provenance.accounting import Verification
from orca2_gen.provenance.recorded import Recorded
from orca2_gen.records import Example
from orca2_gen.run_directory.arrow_files import (
    DamagedFile,
    FileEntry,
    check_file,
    read_records,
    read_table,
)
from orca2_gen.run_directory.digests import tokenizer_files_digest
from orca2_gen.run_directory.json_files import read_json
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.regular_files import UnusableFile, read_regular
from orca2_gen.strategies import Strategies

CARD, INFO, STATE = "README.md", "dataset_info.json", "state.json"
_MOST_BYTES_OF_A_CARD = 16 << 20


def check_dataset(
    recorded: Recorded,
    config: Config,
    strategies: Strategies,
    ledger: Ledger,
    examples: Counter[Any],
    found: Verification,
) -> None:
    """Checks RUN/dataset; `examples` counts the ids of the committed examples."""
    root = ledger.run_dir / "dataset"
    if not os.path.lexists(root):
        is_due = "; run the same command again to write it" if examples else ""
        found.notes.append(f"dataset: not written yet{is_due}")
        return
    try:
        manifest = read_manifest(root)
    except ValueError as error:
        found.findings.append(str(error))
        return
    faults = [fault for entry in manifest.listed if (fault := _file_fault(root, entry))]
    found.findings += [*faults, *_unlisted(root, manifest, found)]
    if faults:
        return
    found.findings += _description_faults(root, manifest, found)
    rows: list[Example] = []
    for entry in manifest.files:
        try:
            rows += read_records(root, entry, Example)
        except DamagedFile as error:
            found.findings.append(str(error))
            return
    ids = Counter(example.problem_id for example in rows)
    if ids != examples:
        found.findings.append(
            f"dataset: holds {ids.total()} rows whose ids are not those of the {examples.total()} "
            "examples"
        )
    found.table.append(("dataset", examples.total(), len(rows), 0, 0))
    found.findings += _manifest_faults(manifest, rows, config, recorded, ledger)
    _check_tokenizer(recorded, config, manifest, found)
    if manifest.prompts != "erased":
        found.notes.append(
            f"dataset: prompts are {manifest.prompts}, so there is no erasure to prove"
        )
        return
    found.findings += _proof_faults(manifest, rows, config, strategies, recorded, found)


def _proof_faults(
    manifest: Manifest,
    rows: list[Example],
    config: Config,
    strategies: Strategies,
    recorded: Recorded,
    found: Verification,
) -> Iterator[str]:
    """A line for each way in which the rows are not erased, or not as the manifest proves."""
    rendering = manifest.rendering or engine_rendering(config.student, config.template_date)
    chat = load_chat(engine_directory(config.student), rendering)
    if manifest.rendering is None:
        chat = dataclasses.replace(chat, digest=chat.undated_digest)
    rendered = rendered_texts(chat, conversation_roles(strategies))
    before = recorded.stages.get("examples", {}).get("rendered", {})
    is_recorded = all(rendered.get(name) == before.get(name) for name in TEXT_KEYS)
    if manifest.rendering is not None and not is_recorded:
        yield (
            "dataset: its manifest says that the chat template rendered otherwise than the run "
            "recorded; make the run again in another run_dir"
        )
    if rendered.get("encoding", 1) == before.get("encoding", 1):
        yield from _erasure_faults(manifest, rows, chat, strategies)
        return
    found.notes.append(
        "dataset: an older version encoded its rows, so their texts are proved, not their ids"
    )
    untold = [e.problem_id for e in rows if not is_told_cautiously(e, strategies)]
    if untold:
        yield f"dataset: {len(untold)} prompts are not erased, e.g. {untold[0]}"


def _file_fault(root: Path, entry: FileEntry) -> str:
    """What is wrong with a file of the manifest; empty if nothing is."""
    try:
        check_file(root, entry)
    except DamagedFile as error:
        return str(error)
    return ""


def _unlisted(root: Path, manifest: Manifest, found: Verification) -> Iterator[str]:
    """A line for each file beside the dataset's that a loader of `*.arrow` files would read."""
    listed = {entry.path for entry in manifest.listed} | {"manifest.json", CARD, INFO, STATE}
    for path in sorted(root.iterdir()):
        if path.name in listed or ".tmp-" in path.name:
            continue
        if path.suffix == ".arrow" and not path.name.startswith("cache-"):
            yield f"{path} is not listed in the manifest; move it out of the dataset"
        else:  # `datasets` itself keeps its cache beside the shards
            found.notes.append(f"{path} is not part of the dataset")


def _description_faults(root: Path, manifest: Manifest, found: Verification) -> Iterator[str]:
    """A line for each way in which what `load_from_disk` reads is not about these shards."""
    listed = {entry.path for entry in manifest.descriptions}
    for name in (STATE, INFO):
        if name not in listed:
            yield f"{root / 'manifest.json'} does not list {name}, which load_from_disk reads"
    try:
        state, about = read_json(root / STATE), read_json(root / INFO)
    except (DamagedFile, FileNotFoundError) as error:
        yield str(error) if isinstance(error, DamagedFile) else f"{error.filename} is absent"
        return
    for key, value in state_of(manifest.files).items():
        if not isinstance(state, dict) or key not in state or state[key] != value:
            yield f"{root / STATE}: {key} is not that of the {len(manifest.files)} shards listed"
    if not isinstance(about, dict) or about.get("features") != _features(root, manifest):
        yield f"{root / INFO}: its features are not the columns of the shards"
        return
    if manifest.summary is None:
        yield f"{root / 'manifest.json'} lacks summary"
        return
    try:
        card = read_regular(root / CARD, _MOST_BYTES_OF_A_CARD)
    except FileNotFoundError:
        yield f"{root / CARD} is absent"
        return
    except UnusableFile as error:
        yield str(error)
        return
    if manifest.summary.prompts not in ("erased", "instruction_kept"):
        return  # of another program, or edited, which is found with its rows
    if card != card_of(manifest.summary, str(about.get("dataset_name"))):
        line = f"{root / CARD} is not the card that this program makes of the manifest"
        if CARD in listed:
            found.notes.append(line)  # its digest is right: an older version worded it
        else:
            yield line


def _features(root: Path, manifest: Manifest) -> Any:
    from datasets import Features

    # Rows of an older version may lack columns, so the shards themselves say which there are.
    try:
        schema = read_table(root, manifest.files[0], Example).schema
        return Features.from_arrow_schema(schema).to_dict()
    except (DamagedFile, IndexError, ValueError, TypeError, KeyError):
        return None


def _manifest_faults(
    manifest: Manifest,
    rows: list[Example],
    config: Config,
    recorded: Recorded,
    ledger: Ledger,
) -> Iterator[str]:
    counted = RowCounts()
    counted.add(rows)
    summary = counted.summary("dataset", len(manifest.files), manifest.prompts)
    if manifest.summary != summary:
        said = manifest.summary.rows if manifest.summary is not None else "no"
        yield (
            f"dataset: its manifest counts {said} rows, its files hold {len(rows)}, or its summary "
            "differs from them otherwise"
        )
    keys = {receipt.stage_key for receipt in ledger.committed("examples")}
    if keys and manifest.examples_key not in keys:
        yield "dataset: its manifest names another key of examples than theirs"
    if manifest.prompts != config.erasure.prompts:
        yield (
            f"dataset: its manifest says prompts are {manifest.prompts}, the run's config says "
            f"{config.erasure.prompts}"
        )
    if manifest.prompts != "erased" and manifest.proof is not None:
        yield "dataset: its manifest holds a proof of erasure, and says that nothing was erased"


def _check_tokenizer(
    recorded: Recorded, config: Config, manifest: Manifest, found: Verification
) -> None:
    """Checks that the rows were encoded with the tokenizer that the examples' key was made of."""
    directory = engine_directory(config.student)
    now = tokenizer_files_digest(Path(directory))
    before = recorded.stages.get("examples", {}).get("tokenizer")
    encoded = now if manifest.tokenizer_files is None else manifest.tokenizer_files
    if encoded != before:
        found.findings.append(
            f"dataset: was encoded with a tokenizer or template in {directory} other than the one "
            "that the run recorded; make the run again in another run_dir"
        )
    elif now != before:
        found.notes.append(
            f"{directory}: a file of the tokenizer has changed since the run; what it encodes is "
            "compared with the rows"
        )


def _erasure_faults(
    manifest: Manifest, rows: list[Example], chat: Chat, strategies: Strategies
) -> Iterator[str]:
    if manifest.tokenizer_digest != chat.digest:
        yield "dataset: was encoded with a tokenizer or template other than the student's"
    if manifest.proof != prove(rows, chat=chat, strategies=strategies):
        yield "dataset: the proof in its manifest is not the proof of its rows"
    unproved = [e.problem_id for e in rows if not is_erased(e, chat=chat, strategies=strategies)]
    if unproved:
        yield f"dataset: {len(unproved)} prompts are not erased, e.g. {unproved[0]}"
