"""A written dataset against the rows that it was made of: shards, descriptions, manifest, proof."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orca2_gen.chat import load_chat, rendered_texts
from orca2_gen.chat.rendered_texts import TEXT_KEYS
from orca2_gen.config.arguments import engine_rendering
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.dataset.croissant import CROISSANT
from orca2_gen.dataset.manifest import Manifest, read_manifest
from orca2_gen.dataset.proof import RowsProved
from orca2_gen.dataset.shards import features_of, read_shard, schema_of, state_of
from orca2_gen.dataset.verdict import verdict_of
from orca2_gen.prompts import conversation_roles
from orca2_gen.provenance.accounting import Verification
from orca2_gen.provenance.card_faults import CARD, card_faults, fact_faults, figure_faults
from orca2_gen.provenance.dataset_rows import DatasetRows, is_its_summary, row_faults
from orca2_gen.provenance.recorded import Recorded
from orca2_gen.provenance.row_origins import OriginCheck, origins_by_unit, teacher_facts
from orca2_gen.run_directory.arrow_files import (
    DamagedFile,
    FileEntry,
    check_file,
)
from orca2_gen.run_directory.digests import tokenizer_files_digest
from orca2_gen.run_directory.json_files import read_json
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.strategies import Strategies

INFO, STATE = "dataset_info.json", "state.json"


def check_dataset(
    recorded: Recorded,
    config: Config,
    strategies: Strategies,
    ledger: Ledger,
    examples: Counter[tuple[str, int]],
    found: Verification,
) -> None:
    """Checks RUN/dataset; `examples` counts the committed examples by problem and attempt."""
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
    faults = [fault for entry in manifest.listed if (fault := file_fault(root, entry))]
    found.findings += [*faults, *unlisted(root, manifest, found)]
    if faults:
        return
    found.findings += description_faults(root, manifest, found)
    prover = _prover(manifest, config, strategies, recorded, found)
    rows = DatasetRows()
    origins = OriginCheck(
        run_dir=ledger.run_dir,
        teacher=teacher_facts(recorded, config),
        origins=origins_by_unit(ledger),
    )
    try:
        for entry in manifest.files:
            for batch in read_shard(root, entry):
                rows.add(batch, prover)
                origins.add(batch)
    except DamagedFile as error:
        found.findings.append(str(error))
        return
    if rows.ids != examples:
        found.findings.append(
            f"dataset: holds {rows.ids.total()} rows whose ids are not those of the "
            f"{examples.total()} examples"
        )
    found.table.append(("dataset", examples.total(), rows.ids.total(), 0, 0))
    rows.note_several(found)
    found.findings += _manifest_faults(manifest, rows, config, recorded, ledger)
    found.findings += figure_faults(root, manifest, rows)
    found.findings += fact_faults(manifest, recorded, ledger)
    _check_tokenizer(recorded, config, manifest, found)
    found.findings += row_faults(manifest, rows, prover)
    origins.tell(found)
    if prover is not None:
        _say_verdict(manifest, prover, found)


def _prover(
    manifest: Manifest,
    config: Config,
    strategies: Strategies,
    recorded: Recorded,
    found: Verification,
) -> RowsProved | None:
    """How to prove the rows; None, with a note, if there is no erasure to prove."""
    if manifest.prompts != "erased":
        found.notes.append(
            f"dataset: prompts are {manifest.prompts}, so there is no erasure to prove"
        )
        return None
    rendering = manifest.rendering or engine_rendering(config.student, config.template_date)
    chat = load_chat(engine_directory(config.student), rendering)
    if manifest.rendering is None:
        chat = dataclasses.replace(chat, digest=chat.undated_digest)
    rendered = rendered_texts(chat, conversation_roles(strategies))
    before = recorded.stages.get("examples", {}).get("rendered", {})
    is_recorded = all(rendered.get(name) == before.get(name) for name in TEXT_KEYS)
    if manifest.rendering is not None and not is_recorded:
        found.findings.append(
            "dataset: its manifest says that the chat template rendered otherwise than the run "
            "recorded; make the run again in another run_dir"
        )
    by_ids = rendered.get("encoding", 1) == before.get("encoding", 1)
    if not by_ids:
        found.notes.append(
            "dataset: an older version encoded its rows, so their texts are proved, not their ids"
        )
    return RowsProved(strategies=strategies, chat=chat, by_ids=by_ids)


def _say_verdict(manifest: Manifest, prover: RowsProved, found: Verification) -> None:
    found.verdict = verdict_of(prover.proof())
    if manifest.proof is not None and manifest.proof.is_older:
        found.notes.append(
            "dataset: an older version proved it and looked for no words of instructions; the "
            "verdict is that of its rows today"
        )


def file_fault(root: Path, entry: FileEntry) -> str:
    """What is wrong with a file of the manifest; empty if nothing is."""
    try:
        check_file(root, entry)
    except DamagedFile as error:
        return str(error)
    return ""


def unlisted(root: Path, manifest: Manifest, found: Verification) -> Iterator[str]:
    """A line for each file beside the dataset's that a loader of `*.arrow` files would read."""
    listed = {entry.path for entry in manifest.listed} | {"manifest.json", CARD, INFO, STATE}
    listed |= {CROISSANT} if manifest.figures is not None else set()
    for path in sorted(root.iterdir()):
        if path.name in listed or ".tmp-" in path.name:
            continue
        if path.suffix == ".arrow" and not path.name.startswith("cache-"):
            yield f"{path} is not listed in the manifest; move it out of the dataset"
        else:  # `datasets` itself keeps its cache beside the shards
            found.notes.append(f"{path} is not part of the dataset")


def description_faults(root: Path, manifest: Manifest, found: Verification) -> Iterator[str]:
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
    if not isinstance(about, dict) or not _are_features(about.get("features"), root, manifest):
        yield f"{root / INFO}: its features are not the columns of the shards"
        return
    yield from card_faults(root, manifest, str(about.get("dataset_name")), found)


def _are_features(said: Any, root: Path, manifest: Manifest) -> bool:
    """Whether these are the features of the shards; older versions told them in newer words."""
    from datasets import Features

    # Rows of an older version may lack columns, so the shards themselves say which there are.
    try:
        schemas = [schema_of(root, entry) for entry in manifest.files]
        newer = Features.from_arrow_schema(schemas[0]).to_dict()
        is_one = all(schema.equals(schemas[0]) for schema in schemas)
        return is_one and said in (features_of(schemas[0]), newer)
    except (DamagedFile, IndexError, ValueError, TypeError, KeyError):
        return False


def _manifest_faults(
    manifest: Manifest,
    rows: DatasetRows,
    config: Config,
    recorded: Recorded,
    ledger: Ledger,
) -> Iterator[str]:
    if not is_its_summary(manifest, rows):
        said = manifest.summary.rows if manifest.summary is not None else "no"
        yield (
            f"dataset: its manifest counts {said} rows, its files hold {rows.ids.total()}, or its "
            "summary differs from them otherwise"
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
