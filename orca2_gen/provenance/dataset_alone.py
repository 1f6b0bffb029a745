"""A dataset directory that left its run -> its faults, by its own files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from orca2_gen.dataset.manifest import Manifest, read_manifest
from orca2_gen.dataset.shards import messages_in, read_shard
from orca2_gen.provenance.accounting import Verification
from orca2_gen.provenance.card_faults import figure_faults
from orca2_gen.provenance.dataset_faults import description_faults, file_fault, unlisted
from orca2_gen.provenance.dataset_rows import DatasetRows
from orca2_gen.records import Message
from orca2_gen.run_directory.arrow_files import DamagedFile


def is_dataset(directory: Path) -> bool:
    """Whether it is a dataset's directory, and not that of a run."""
    is_run = any((directory / name).exists() for name in ("config.json", "ledger.jsonl"))
    return os.path.lexists(directory / "manifest.json") and not is_run


def verify_dataset(root: Path) -> Verification:
    """The faults of a dataset directory, by its manifest alone.

    What its rows were made of, and the student's tokenizer, are not there: the texts of an erased
    dataset are proved, and not its ids.
    """
    found = Verification()
    try:
        manifest = read_manifest(root)
    except ValueError as error:
        found.findings.append(str(error))
        return found
    faults = [fault for entry in manifest.listed if (fault := file_fault(root, entry))]
    found.findings += [*faults, *unlisted(root, manifest, found)]
    if faults:
        return found
    found.findings += description_faults(root, manifest, found)
    _check_rows(root, manifest, found)
    found.notes.append(
        "the directory holds no run, so what its rows were made of is not looked at, and texts are "
        "proved but no ids; verify the run for both"
    )
    return found


def _check_rows(root: Path, manifest: Manifest, found: Verification) -> None:
    rows, untold = DatasetRows(), ""
    cautious = manifest.proof.cautious_message_sha256 if manifest.proof is not None else ""
    try:
        for entry in manifest.files:
            for batch in read_shard(root, entry):
                rows.add(batch, None)
                ids = batch.column("problem_id").to_pylist()
                for problem_id, messages in zip(ids, messages_in(batch), strict=True):
                    if cautious and not untold and not _is_told(messages, cautious):
                        untold = problem_id
    except DamagedFile as error:
        found.findings.append(str(error))
        return
    found.table.append(("dataset", rows.ids.total(), rows.ids.total(), 0, 0))
    summary = rows.counted.summary("dataset", len(manifest.files), manifest.prompts)
    if manifest.summary != summary:
        found.findings.append(f"{root / 'manifest.json'}: its summary is not that of its shards")
    found.findings += figure_faults(root, manifest, rows)
    if twice := [problem_id for problem_id, count in rows.ids.items() if count > 1]:
        found.findings.append(f"{root}: {len(twice)} ids stand in it twice, e.g. {twice[0]}")
    if rows.mislabelled:
        found.findings.append(
            f"{root}: labels are not the ids behind the prompt, e.g. in the rows from "
            f"{rows.mislabelled}"
        )
    if (manifest.prompts == "erased") != bool(cautious):
        found.findings.append(
            f"{root / 'manifest.json'} says prompts are {manifest.prompts}, and "
            f"{'holds a' if cautious else 'holds no'} proof of erasure"
        )
    elif manifest.proof is not None and manifest.proof.num_proved != rows.ids.total():
        found.findings.append(
            f"{root / 'manifest.json'} proves {manifest.proof.num_proved} of "
            f"{rows.ids.total()} rows"
        )
    if untold:
        found.findings.append(f"{root}: prompts are not erased, e.g. that of {untold}")


def _is_told(messages: Sequence[Message], cautious_sha256: str) -> bool:
    """Whether the texts are the message of this digest, one user message and its answer."""
    if [message.role for message in messages] != ["system", "user", "assistant"]:
        return False
    return hashlib.sha256(messages[0].content.encode()).hexdigest() == cautious_sha256
