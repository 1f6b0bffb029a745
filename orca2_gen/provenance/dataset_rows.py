"""The rows of a dataset directory -> what is counted and proved of them, a batch at a time."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from orca2_gen.dataset.figures import RowCounts
from orca2_gen.dataset.manifest import Manifest
from orca2_gen.dataset.proof import ErasureProof, RowsProved
from orca2_gen.dataset.shards import has_its_labels, ids_in
from orca2_gen.provenance.accounting import Verification
from orca2_gen.run_directory.row_names import row_name


@dataclass(kw_only=True, slots=True)
class DatasetRows:
    """What is kept of a dataset's rows, of which one batch is read at a time."""

    counted: RowCounts = field(default_factory=RowCounts)
    ids: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Rows by problem and attempt; each stands here once in a whole dataset."""
    mislabelled: str = ""
    """Id of a row of the first batch whose labels are not its ids behind the prompt."""

    @property
    def num_problems(self) -> int:
        return len({problem_id for problem_id, _ in self.ids})

    def note_several(self, found: Verification) -> None:
        """Says of how many problems the rows are, if it is another number."""
        if self.num_problems != self.ids.total():
            found.several["dataset"] = self.ids.total(), self.num_problems

    def add(self, batch: pa.RecordBatch, prover: RowsProved | None) -> None:
        """Looks at a batch."""
        ids = ids_in(batch)
        self.counted.add(batch)
        self.ids.update(ids)
        self.mislabelled = self.mislabelled or ("" if has_its_labels(batch) else row_name(*ids[0]))
        if prover is not None:
            prover.add(batch)


def is_its_summary(manifest: Manifest, rows: DatasetRows) -> bool:
    """Whether the summary of a manifest is that of its rows; older ones count no problems."""
    summary = rows.counted.summary("dataset", len(manifest.files), manifest.prompts)
    is_older = manifest.summary is not None and manifest.summary.problems is None
    problems = None if is_older else rows.num_problems
    return manifest.summary == dataclasses.replace(summary, problems=problems)


def row_faults(manifest: Manifest, rows: DatasetRows, prover: RowsProved | None) -> Iterator[str]:
    """A line for each way in which rows teach something else than the manifest proves."""
    if rows.mislabelled:
        yield (
            f"dataset: labels are not the ids behind the prompt, e.g. in the rows from "
            f"{rows.mislabelled}"
        )
    if prover is None:
        return
    if prover.chat is not None and prover.by_ids:
        if manifest.tokenizer_digest != prover.chat.digest:
            yield "dataset: was encoded with a tokenizer or template other than the student's"
        if (fault := proof_fault(manifest.proof, prover.proof())) is not None:
            yield f"dataset: {fault}"
    yield from (f"dataset: {fault}" for fault in unerased(prover))


def proof_fault(said: ErasureProof | None, proof: ErasureProof) -> str | None:
    """In what a manifest's proof is not that of its rows; None if it is.

    What an older version did not say is not compared.
    """
    line = "the proof in its manifest is not the proof of its rows"
    if said is None:
        return f"{line}: there is none"
    before = dataclasses.asdict(said)
    after = dataclasses.asdict(proof.as_older() if said.is_older else proof)
    # The digest only says that another field differs.
    differing = [name for name in before if before[name] != after[name]]
    if not differing:
        return None
    name = differing[0]
    return f"{line}: {name} is {_shown(before[name])}, that of its rows is {_shown(after[name])}"


def unerased(prover: RowsProved) -> Iterator[str]:
    """A line for each way in which prompts still hold what was to be erased."""
    if prover.unproved:
        num = prover.num_examples - prover.num_proved
        yield f"{num} prompts are not erased, e.g. {prover.unproved}"
    if prover.trace is not None:
        yield (
            f"{prover.num_instructed} prompts hold words of an instruction, e.g. "
            f"{prover.instructed}: the template writes {prover.trace.sentence}"
        )


def _shown(value: object) -> str:
    said = json.dumps(value, sort_keys=True)
    return said if len(said) <= 80 else f"{said[:77]}..."
