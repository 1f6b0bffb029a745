"""A run's dataset and the teacher's refused answers -> pairs of a right and a wrong answer.

    prompt      the row's messages before the answer: the cautious system message, the user's
    chosen      the row's answer
    rejected    an answer to the same problem under the same strategy that the grader found wrong

Other refused answers make no pair: one that was cut short, or that quotes the instruction, teaches
something else than right and wrong. The i-th row of a problem meets its i-th incorrect answer, from
the first again where there are fewer, so pairs are the same however often they are made.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from orca2_gen.dataset.shapes import THOUGHT, keeps_thoughts
from orca2_gen.dataset.shards import features_of, messages_in
from orca2_gen.quoting import quotes_instruction
from orca2_gen.records import Message, Rationale
from orca2_gen.run_directory.arrow_files import DamagedFile, read_records
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.run_directory.units import Receipt, read_refused

INCORRECT = "incorrect"
_TEXT = pa.string()


@dataclass(kw_only=True, slots=True)
class Pairing:
    """The pairs of a run, and the figures of those made so far."""

    ledger: Ledger
    tasks: Counter[str] = field(default_factory=Counter)
    """Task -> pairs."""
    num_unpaired: int = 0
    """Rows of the dataset whose problem has no incorrect answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """A row of the dataset, as far as a pair needs it."""

    problem_id: str
    task: str
    strategy: str
    messages: tuple[Message, ...]


def pairing_of(root: Path) -> Pairing:
    """The Pairing of the run whose dataset directory is given.

    Raises:
        ValueError: it lies in no run, or the run kept no refused answers.
        DamagedFile: the ledger is damaged.
    """
    run_dir = root.parent
    if root.name != "dataset" or not (run_dir / "ledger.jsonl").is_file():
        raise ValueError(
            f"{root} lies in no run, and refused answers are kept there: give the run's directory, "
            "or another shape"
        )
    ledger = read_ledger(run_dir)
    if not any(receipt.refused is not None for receipt in ledger.committed("rationales")):
        raise ValueError(
            f"{run_dir} holds no refused answers, of which the rejected sides of pairs are made: "
            "an older version made it, rationales.keep_refused was off, or none was refused"
        )
    return Pairing(ledger=ledger)


def preference_schema(shard: pa.Schema) -> pa.Schema:
    """The schema of pairs, for shards of this schema, with its `datasets` features."""
    turn = [("role", _TEXT), ("content", _TEXT)]
    if keeps_thoughts(shard):
        turn.append((THOUGHT, _TEXT))
    turns = pa.list_(pa.struct(turn))
    schema = pa.schema(
        [
            *((name, _TEXT) for name in ("problem_id", "task", "strategy")),
            *((name, turns) for name in ("prompt", "chosen", "rejected")),
            *((name, pa.int64()) for name in ("chosen_attempt", "rejected_attempt")),
        ]
    )
    about = {"info": {"features": features_of(schema)}}
    return schema.with_metadata({"huggingface": json.dumps(about)})


def pairs(
    pairing: Pairing, batches: Iterable[pa.RecordBatch], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """The pairs of the dataset's rows, in their order, a unit of the run at a time.

    Args:
        pairing: the run's, which counts them.
        batches: the dataset's rows.
        schema: what `preference_schema` gives for its shards.

    Raises:
        DamagedFile: the dataset does not hold the run's examples, or a file is damaged.
    """
    rows = (row for batch in batches for row in _rows(batch))
    for receipt in pairing.ledger.committed("examples"):
        taken = [row for _, row in zip(range(receipt.accepted.rows), rows, strict=False)]
        if len(taken) < receipt.accepted.rows:
            raise _other_rows(pairing)
        made = list(_unit_pairs(pairing, receipt, taken, keeps_thoughts=_has_thoughts(schema)))
        if made:
            yield pa.RecordBatch.from_pylist(made, schema=schema)
    if next(rows, None) is not None:
        raise _other_rows(pairing)


def _unit_pairs(
    pairing: Pairing, receipt: Receipt, rows: Sequence[_Row], *, keeps_thoughts: bool
) -> Iterator[dict[str, Any]]:
    run_dir = pairing.ledger.run_dir
    taught = pairing.ledger.units.get(("rationales", receipt.unit))
    if taught is None:
        raise _other_rows(pairing)
    # Datasets of older versions do not name the attempt.
    attempts = {
        (each.problem_id, each.text, each.reasoning if keeps_thoughts else ""): each.attempt
        for each in read_records(run_dir, taught.accepted, Rationale)
    }
    wrong: dict[str, list[Rationale]] = defaultdict(list)
    for rationale in read_refused(run_dir, taught, Rationale):
        if rationale.fault == INCORRECT and not _quotes(rationale, keeps_thoughts):
            wrong[rationale.problem_id].append(rationale)
    seen: Counter[str] = Counter()
    for row in rows:
        said = row.messages[-1]
        attempt = attempts.get((row.problem_id, said.content, said.reasoning))
        if attempt is None:
            raise _other_rows(pairing)
        found = wrong.get(row.problem_id)
        if not found:
            pairing.num_unpaired += 1
            continue
        rejected = found[seen[row.problem_id] % len(found)]
        seen[row.problem_id] += 1
        pairing.tasks[row.task] += 1
        answer = Message(role="assistant", content=rejected.text, reasoning=rejected.reasoning)
        yield {
            "problem_id": row.problem_id,
            "task": row.task,
            "strategy": row.strategy,
            "prompt": [_turn(each, keeps_thoughts) for each in row.messages[:-1]],
            "chosen": [_turn(said, keeps_thoughts)],
            "rejected": [_turn(answer, keeps_thoughts)],
            "chosen_attempt": attempt,
            "rejected_attempt": rejected.attempt,
        }


def _quotes(row: Rationale, keeps_thoughts: bool) -> bool:
    """Whether an answer gives its instruction away; acceptance names another fault then."""
    told = (row.system, *row.further_calls)
    said = (row.text, row.reasoning) if keeps_thoughts else (row.text,)
    return any(quotes_instruction(each, text, row.user) for each in said for text in told)


def _turn(message: Message, keeps_thoughts: bool) -> dict[str, str]:
    turn = {"role": message.role, "content": message.content}
    return turn | {THOUGHT: message.reasoning} if keeps_thoughts else turn


def _has_thoughts(schema: pa.Schema) -> bool:
    return THOUGHT in {each.name for each in schema.field("prompt").type.value_type}


def _rows(batch: pa.RecordBatch) -> Iterator[_Row]:
    names = (batch.column(name).to_pylist() for name in ("problem_id", "task", "strategy"))
    for problem_id, task, strategy, messages in zip(*names, messages_in(batch), strict=True):
        yield _Row(problem_id=problem_id, task=task, strategy=strategy, messages=messages)


def _other_rows(pairing: Pairing) -> DamagedFile:
    run_dir = pairing.ledger.run_dir
    return DamagedFile(
        f"{run_dir / 'dataset'} does not hold the examples that are committed in {run_dir}; run "
        "the same command again, which makes the dataset anew"
    )
