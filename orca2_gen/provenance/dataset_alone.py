"""A dataset directory that left its run -> its faults, by its own files.

The manifest has only hashes of the instructions, so their texts come from a strategies file; ids,
and what the template writes, are proved if the student's directory is named.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from orca2_gen.chat import PLAIN, Chat, load_chat, rendered_texts
from orca2_gen.dataset.manifest import Manifest, read_manifest
from orca2_gen.dataset.proof import ErasureProof, RowsProved, further_calls_sha256, sha256_of
from orca2_gen.dataset.shards import messages_in, read_shard
from orca2_gen.dataset.template_texts import PROMPT, ROW
from orca2_gen.dataset.verdict import verdict_of
from orca2_gen.preflight.template import loaded_chat
from orca2_gen.provenance.accounting import Verification
from orca2_gen.provenance.card_faults import figure_faults
from orca2_gen.provenance.dataset_faults import description_faults, file_fault, unlisted
from orca2_gen.provenance.dataset_rows import DatasetRows, is_its_summary, proof_fault
from orca2_gen.provenance.row_origins import own_fault
from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.row_names import row_name
from orca2_gen.strategies import Strategies, load_strategies


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """What a dataset does not hold, and what proves more of it."""

    model: Path | None = None
    """The student's directory."""
    strategies: Path | None = None
    """The run's strategies file; None takes the package's own, if its texts are the run's."""


def is_dataset(directory: Path) -> bool:
    """Whether it is a dataset's directory, and not that of a run."""
    is_run = any((directory / name).exists() for name in ("config.json", "ledger.jsonl"))
    return os.path.lexists(directory / "manifest.json") and not is_run


def verify_dataset(root: Path, beside: Beside | None = None) -> Verification:
    """The faults of a dataset directory, by its manifest and what is given beside it.

    Raises:
        ValueError: what is given beside it cannot be read.
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
    unseen = ["the directory holds no run, so what its rows were made of is not looked at"]
    try:
        prover = _prover(root, manifest, beside or Beside(), found, unseen)
        _check_rows(root, manifest, prover, found)
    except DamagedFile as error:
        found.findings.append(str(error))
    found.notes.append("; ".join(unseen))
    return found


def _prover(
    root: Path, manifest: Manifest, beside: Beside, found: Verification, unseen: list[str]
) -> RowsProved | None:
    """How to prove the rows; None if the manifest has no proof."""
    if (said := manifest.proof) is None:
        unseen.append(f"prompts are {manifest.prompts}, so there is no erasure to prove")
        return None
    strategies = _told(root, said, beside.strategies, found)
    if strategies is None:
        unseen.append(
            "no text was searched for words of instructions; name the run's strategies file with "
            "--strategies"
        )
        strategies = Strategies(
            instructions={}, cautious_message=_cautious(root, manifest, said), answer_sentence=False
        )
    chat = _student(root, manifest, beside.model, found) if beside.model is not None else None
    by_ids = chat is not None and not (
        said.is_older and rendered_texts(chat, (PROMPT, ROW)).get("encoding", 1) != 1
    )
    if chat is None:
        unseen.append(
            "texts are proved, but no ids and not what the template writes; name the student's "
            "directory with --model"
        )
    elif not by_ids:
        unseen.append("an older version encoded the rows, so texts are proved, but no ids")
    return RowsProved(strategies=strategies, chat=chat, by_ids=by_ids)


def _told(
    root: Path, said: ErasureProof, path: Path | None, found: Verification
) -> Strategies | None:
    """The Strategies with the texts that the proof names by their hashes; None if they are not
    there, with a finding if they should be.
    """
    strategies = load_strategies(str(path) if path is not None else None)
    differing = [
        name
        for name in sorted(said.instructions_sha256.keys() | strategies.every_instruction.keys())
        if said.instructions_sha256.get(name)
        != sha256_of(strategies.every_instruction.get(name, ""))
    ]
    if said.cautious_message_sha256 != sha256_of(strategies.cautious_message):
        differing.insert(0, "cautious_message")
    if not said.is_older and said.further_calls_sha256 != further_calls_sha256(strategies):
        differing.append("further_calls")
    if not differing:
        return strategies
    if path is not None:
        found.findings.append(
            f"{root / 'manifest.json'}: its proof is about other texts than those of {path}: "
            f"{', '.join(differing)}; give the run's own strategies file"
        )
    return None


def _student(root: Path, manifest: Manifest, model: Path, found: Verification) -> Chat | None:
    """The Chat that encoded the rows; None, with a finding, if it is another.

    Raises:
        ValueError: it cannot be loaded.
    """
    chat = loaded_chat("--model", str(model), manifest.rendering or PLAIN, load_chat)
    if manifest.rendering is None:
        chat = dataclasses.replace(chat, digest=chat.undated_digest)
    if chat.digest == manifest.tokenizer_digest:
        return chat
    found.findings.append(
        f"{root / 'manifest.json'}: its rows were encoded with another tokenizer or template than "
        f"{model} has ({manifest.tokenizer_digest[:12]} and {chat.digest[:12]}); give the "
        "student's directory"
    )
    return None


def _cautious(root: Path, manifest: Manifest, said: ErasureProof) -> str:
    """The first system message of the rows that has the hash of the cautious one; else empty."""
    for entry in manifest.files:
        for batch in read_shard(root, entry):
            for messages in messages_in(batch):
                text = messages[0].content if messages else ""
                if sha256_of(text) == said.cautious_message_sha256:
                    return text
    return ""


def _check_rows(
    root: Path, manifest: Manifest, prover: RowsProved | None, found: Verification
) -> None:
    rows, inconsistent = DatasetRows(), ""
    for entry in manifest.files:
        for batch in read_shard(root, entry):
            rows.add(batch, prover)
            inconsistent = inconsistent or own_fault(batch)
    found.table.append(("dataset", rows.ids.total(), rows.ids.total(), 0, 0))
    rows.note_several(found)
    if not is_its_summary(manifest, rows):
        found.findings.append(f"{root / 'manifest.json'}: its summary is not that of its shards")
    found.findings += figure_faults(root, manifest, rows)
    if twice := [row_name(*key) for key, count in rows.ids.items() if count > 1]:
        found.findings.append(f"{root}: {len(twice)} ids stand in it twice, e.g. {twice[0]}")
    if rows.mislabelled:
        found.findings.append(
            f"{root}: labels are not the ids behind the prompt, e.g. in the rows from "
            f"{rows.mislabelled}"
        )
    if inconsistent:
        found.findings.append(f"{root}: {inconsistent}")
    if (manifest.prompts == "erased") != (manifest.proof is not None):
        found.findings.append(
            f"{root / 'manifest.json'} says prompts are {manifest.prompts}, and "
            f"{'holds a' if manifest.proof is not None else 'holds no'} proof of erasure"
        )
    if manifest.proof is not None and prover is not None:
        _check_proof(root, manifest, manifest.proof, prover, found)


def _check_proof(
    root: Path, manifest: Manifest, said: ErasureProof, prover: RowsProved, found: Verification
) -> None:
    """Compares a manifest's proof with that of the rows, as far as it can be made again."""
    path, proof = root / "manifest.json", prover.proof()
    if prover.chat is None:
        proof = dataclasses.replace(
            proof,
            tokenizer_digest=said.tokenizer_digest,
            num_instructed=said.num_instructed,
            rendered_sha256=said.rendered_sha256,
        )
    if not prover.strategies.instructions:
        proof = dataclasses.replace(
            proof,
            instructions_sha256=said.instructions_sha256,
            further_calls_sha256=said.further_calls_sha256,
            cautious_message_sha256=said.cautious_message_sha256,
            num_unsought=said.num_unsought,
            num_instructed=said.num_instructed,
            num_quoting=said.num_quoting,
        )
    proof = dataclasses.replace(proof, digest=said.digest)
    if (fault := proof_fault(said, proof)) is not None:
        found.findings.append(f"{path}: {fault}")
    elif not said.is_older and said.digest != said.computed_digest():
        found.findings.append(f"{path}: its proof was changed after it was written")
    if said.tokenizer_digest != manifest.tokenizer_digest:
        found.findings.append(f"{path}: its proof names another tokenizer than the manifest")
    if prover.unproved:
        found.findings.append(f"{root}: prompts are not erased, e.g. that of {prover.unproved}")
    if prover.trace is not None:
        found.findings.append(
            f"{root}: {prover.num_instructed} prompts hold words of an instruction, e.g. that of "
            f"{prover.instructed}: the template writes {prover.trace.sentence}"
        )
    found.verdict = verdict_of(proof)
