"""The rows of a dataset directory -> what is counted and proved of them, a batch at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from orca2_gen.chat import Chat
from orca2_gen.dataset.figures import RowCounts
from orca2_gen.dataset.manifest import Manifest
from orca2_gen.dataset.proof import are_erased, is_told_cautiously, proof_of
from orca2_gen.dataset.shards import has_its_labels, messages_in
from orca2_gen.strategies import Strategies


@dataclass(frozen=True, kw_only=True, slots=True)
class Prover:
    """How the rows of a dataset are proved; of an older encoding only by their texts."""

    chat: Chat
    strategies: Strategies
    by_ids: bool

    def are_proved(self, batch: pa.RecordBatch) -> list[bool]:
        """For each row, whether its prompt is the cautious message and the user's text alone."""
        if self.by_ids:
            return are_erased(batch, chat=self.chat, strategies=self.strategies)
        return [is_told_cautiously(messages, self.strategies) for messages in messages_in(batch)]


@dataclass(kw_only=True, slots=True)
class DatasetRows:
    """What is kept of a dataset's rows, of which one batch is read at a time."""

    counted: RowCounts = field(default_factory=RowCounts)
    ids: Counter[Any] = field(default_factory=Counter)
    num_proved: int = 0
    unproved: str = ""
    """Id of the first row that is not proved."""
    mislabelled: str = ""
    """Id of a row of the first batch whose labels are not its ids behind the prompt."""

    def add(self, batch: pa.RecordBatch, prover: Prover | None) -> None:
        """Looks at a batch."""
        ids = batch.column("problem_id").to_pylist()
        self.counted.add(batch)
        self.ids.update(ids)
        self.mislabelled = self.mislabelled or ("" if has_its_labels(batch) else ids[0])
        if prover is None:
            return
        are_proved = prover.are_proved(batch)
        self.num_proved += sum(are_proved)
        if not self.unproved and not all(are_proved):
            self.unproved = ids[are_proved.index(False)]


def row_faults(manifest: Manifest, rows: DatasetRows, prover: Prover | None) -> Iterator[str]:
    """A line for each way in which rows teach something else than the manifest proves."""
    if rows.mislabelled:
        yield (
            f"dataset: labels are not the ids behind the prompt, e.g. in the rows from "
            f"{rows.mislabelled}"
        )
    if prover is None:
        return
    num_rows = rows.ids.total()
    if prover.by_ids:
        proof = proof_of(num_rows, rows.num_proved, chat=prover.chat, strategies=prover.strategies)
        if manifest.tokenizer_digest != prover.chat.digest:
            yield "dataset: was encoded with a tokenizer or template other than the student's"
        if manifest.proof != proof:
            yield "dataset: the proof in its manifest is not the proof of its rows"
    if rows.unproved:
        num = num_rows - rows.num_proved
        yield f"dataset: {num} prompts are not erased, e.g. {rows.unproved}"
