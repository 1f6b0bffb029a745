"""Some rows of a run, as the teacher saw them and as the student trains on them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orca2_gen.records import Example, Rationale
from orca2_gen.run_directory.arrow_files import read_records
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.row_names import row_name
from orca2_gen.run_directory.units import Receipt

SAMPLES = 20
MOST_CHARACTERS = 8000
"""Characters of a message that are shown."""
_FEWEST_KEPT = 4
"""Words in a row that both texts have, from which on they count as kept."""
_WORDS = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """Some words of a message."""

    text: str
    is_erased: bool
    """Whether the student does not see them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One message of a conversation, on both sides."""

    role: str
    saw: tuple[Passage, ...]
    """What the teacher saw or wrote."""
    trains: str
    """What the student trains on; empty if it has no such message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleRow:
    """A row of the dataset."""

    name: str
    problem_id: str
    task: str
    strategy: str
    turns: tuple[Turn, ...]


def sample_rows(ledger: Ledger, number: int = SAMPLES) -> list[SampleRow]:
    """Up to `number` rows, from as many tasks as there are: the first of each, then the second."""
    units: dict[str, list[Receipt]] = {}
    for receipt in ledger.committed("examples"):
        if receipt.accepted.rows and ("rationales", receipt.unit) in ledger.units:
            units.setdefault(receipt.group, []).append(receipt)
    if not units:
        return []
    each = -(-number // len(units))
    columns = [list(_rows_of(ledger, receipts, each)) for receipts in units.values()]
    turns = (column[place] for place in range(each) for column in columns if place < len(column))
    return [row for row, _ in zip(turns, range(number), strict=False)]


def _rows_of(ledger: Ledger, receipts: Sequence[Receipt], number: int) -> Iterator[SampleRow]:
    for receipt in receipts:
        if number <= 0:
            return
        examples = read_records(ledger.run_dir, receipt.accepted, Example)[:number]
        made = ledger.units["rationales", receipt.unit].accepted
        rationales = {
            (row.problem_id, row.attempt): row
            for row in read_records(ledger.run_dir, made, Rationale)
        }
        several = {row.problem_id: row for row in rationales.values()}
        for example in examples:
            key = (example.problem_id, example.attempt)
            # Older examples have no attempt, and their problems one rationale.
            rationale = rationales.get(key) or several.get(example.problem_id)
            if rationale is not None:
                number -= 1
                yield _sample(rationale, example)


def _sample(rationale: Rationale, example: Example) -> SampleRow:
    trained = {message.role: message.content for message in example.messages}
    thought = next((m.reasoning for m in example.messages if m.reasoning), "")
    sides = [
        ("system", rationale.system, trained.get("system", "")),
        ("user", rationale.user, trained.get("user", "")),
        *((f"user, call {n}", text, "") for n, text in enumerate(rationale.further_calls, 2)),
        *([("thought", rationale.reasoning, thought)] if rationale.reasoning or thought else []),
        ("assistant", rationale.text, trained.get("assistant", "")),
    ]
    return SampleRow(
        name=row_name(example.problem_id, example.attempt),
        problem_id=example.problem_id,
        task=example.task,
        strategy=example.strategy,
        turns=tuple(
            Turn(role=role, saw=tuple(passages(_cut(saw), _cut(trains))), trains=_cut(trains))
            for role, saw, trains in sides
        ),
    )


def _cut(text: str) -> str:
    """The text, or its beginning and how much follows: twenty of the longest are still a page."""
    left = len(text) - MOST_CHARACTERS
    return text if left <= 0 else f"{text[:MOST_CHARACTERS]} ... ({left} more characters)"


def passages(saw: str, trains: str) -> Iterator[Passage]:
    """The words that the teacher saw, and whether each is erased; together they are the text."""
    if saw == trains:
        if saw:
            yield Passage(text=saw, is_erased=False)
        return
    before, after = _WORDS.findall(saw), _WORDS.findall(trains)
    matcher = difflib.SequenceMatcher(
        None, [word.strip() for word in before], [word.strip() for word in after], autojunk=False
    )
    erased: list[str] = []
    for kind, start, end, _, _ in matcher.get_opcodes():
        words = before[start:end]
        # A few words that both texts happen to have are no part of one that stayed.
        if kind != "equal" or len(words) < min(_FEWEST_KEPT, len(before)):
            erased += words
            continue
        if erased:
            yield Passage(text="".join(erased), is_erased=True)
            erased = []
        yield Passage(text="".join(words), is_erased=False)
    if erased:
        yield Passage(text="".join(erased), is_erased=True)
