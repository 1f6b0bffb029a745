"""Forced endings against the cells that they stand in: where one may be, and what it decides."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orca2_gen.chat import Chat, encode_prompt, load_chat
from orca2_gen.config.arguments import engine_rendering, scored_engine
from orca2_gen.config.load import engine_directory
from orca2_gen.config.schema import Config
from orca2_gen.endings import ending_prompt
from orca2_gen.grading.answers import ANSWER_SENTENCES
from orca2_gen.grading.forced_endings import OPENING
from orca2_gen.grading.grade import GRADER_VERSION
from orca2_gen.provenance.recorded import Recorded
from orca2_gen.records import Message, Problem, Rationale, StudentScore
from orca2_gen.run_directory.arrow_files import DamagedFile, read_records
from orca2_gen.run_directory.ledger import Ledger
from orca2_gen.run_directory.row_names import row_name
from orca2_gen.run_directory.units import Receipt, held_out_unit
from orca2_gen.scoring import regraded

_MOST_BETWEEN = 64
"""Most tokens between an answer and its ending where the tokenizer is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """How a run asked for endings."""

    answer_max_tokens: int | None
    """Tokens of an ending; None if the run asked for none."""
    is_same_grader: bool
    """Whether today's grader made the verdicts, so that they can be derived again."""


def ending_faults(ledger: Ledger, recorded: Recorded, config: Config) -> Iterator[str]:
    """A line for each cell whose ending may not be there, or is not that of its own answer.

    Damaged files are skipped here: the check of every file reports them.
    """
    scoring = recorded.stages.get("scores", {})
    asked = _Asked(
        answer_max_tokens=scoring.get("answer_max_tokens"),
        is_same_grader=scoring.get("grader") == GRADER_VERSION,
    )
    chat = _scored_chat(config)
    forced: set[tuple[str, int]] = set()
    problems_of = functools.lru_cache(maxsize=1)(functools.partial(_problems_of, ledger))
    for stage in ("scores", "evaluation"):
        for receipt in ledger.committed(stage):
            for score in _rows(ledger, receipt, StudentScore):
                if not (score.ending or score.ending_is_unread):
                    continue
                forced.update(_texts(score))
                problem = problems_of(*_place(receipt)).get(score.problem_id)
                is_new = "regraded" not in receipt.counts
                # A model that is evaluated may have a tokenizer of its own.
                own = chat if stage == "scores" else None
                for fault in cell_faults(score, problem, asked, own, is_new=is_new):
                    yield f"{stage}: {score.problem_id} under {score.strategy} {fault}"
    for receipt in ledger.committed("rationales"):
        for rationale in _rows(ledger, receipt, Rationale):
            if (rationale.problem_id, hash(rationale.text.strip())) in forced:
                name = row_name(rationale.problem_id, rationale.attempt)
                yield f"rationales: {name} is taught a forced ending"


def cell_faults(
    score: StudentScore, problem: Problem | None, asked: _Asked, chat: Chat | None, *, is_new: bool
) -> Iterator[str]:
    """What is wrong with a cell's ending, as the end of a sentence about the cell.

    Args:
        score: the cell.
        problem: its problem; None if it is not known.
        asked: how the run asked.
        chat: the scored model's; None if it is not known.
        is_new: whether an engine made the cell for this run, and not for one graded again.
    """
    if asked.answer_max_tokens is None:
        yield "holds a forced ending, and the run asked for none"
        return
    if len(score.ending) != 1:
        yield f"holds {len(score.ending)} forced endings, expected one"
        return
    [ending] = score.ending
    last = (score.completions or (score.completion,))[-1]
    identity = score.problem_id, score.role, score.strategy, last.call + 1, 0
    found = ending.problem_id, ending.role, ending.strategy, ending.call, ending.attempt
    if found != identity:
        yield f"holds the ending of another answer, {found}, expected {identity}"
    if ending.num_completion_tokens > asked.answer_max_tokens:
        yield "holds an ending longer than answer_max_tokens"
    least = last.num_prompt_tokens + len(last.token_ids)
    most = least + _MOST_BETWEEN
    if chat is not None:
        prompt = encode_prompt(chat, (Message(role="user", content=""),))
        between = len(ending_prompt(chat, prompt, last.token_ids)) - len(prompt)
        least = most = last.num_prompt_tokens + between
    if not least <= ending.num_prompt_tokens <= most:
        yield f"holds an ending of {ending.num_prompt_tokens} prompt tokens, not of its answer's"
    if problem is None:
        return  # counting by id reports it
    if problem.answer_type not in ANSWER_SENTENCES:
        yield f"holds a forced ending, which no answer of type {problem.answer_type} has"
    elif asked.is_same_grader:
        if asyncio.run(regraded(problem, score)) != score:
            yield "does not follow from its text and its forced ending"
        elif is_new and score.ending_is_unread:
            yield "holds a forced ending although its own text decides"


def _scored_chat(config: Config) -> Chat | None:
    """The Chat of the model that was scored; None if its files are not here."""
    _, engine = scored_engine(config)
    try:
        return load_chat(engine_directory(engine), engine_rendering(engine, config.template_date))
    except (OSError, ValueError):
        return None


def _texts(score: StudentScore) -> Iterator[tuple[str, int]]:
    """What a training row would hold of a cell with its ending: id and hash of the text."""
    if score.text.strip():  # a short ending alone is what anybody may say
        for each in score.ending:
            whole = f"{score.text.strip()}\n\n{OPENING}{each.text}".strip()
            yield score.problem_id, hash(whole)


def _place(receipt: Receipt) -> tuple[str, str]:
    """Stage of the problems behind a unit of scores, and their group or unit."""
    if receipt.stage == "scores":
        return "problems", receipt.group
    return "evaluation_problems", held_out_unit(receipt)


def _problems_of(ledger: Ledger, stage: str, name: str) -> Mapping[str, Problem]:
    """Id -> problem, of a group or of a unit of held-out problems."""
    receipts = [r for r in ledger.committed(stage) if name in (r.group, r.unit)]
    return {p.problem_id: p for r in receipts for p in _rows(ledger, r, Problem)}


def _rows(ledger: Ledger, receipt: Receipt, record: type[Any]) -> list[Any]:
    try:
        return read_records(ledger.run_dir, receipt.accepted, record)
    except DamagedFile:
        return []
