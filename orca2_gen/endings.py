"""The forced ending of an answer that never came.

A model that thinks longer than its budget, or closes without the line that the answer sentence asks
for, has said nothing that can be graded. It is asked once more, greedily: the conversation, its own
ids as far as they go, an open thought closed, and the opening of that line. What it writes behind
it, at least one token, is a completion of its own, which is read only where the text leaves the
cell undecided and never enters a training row.
"""

from __future__ import annotations

from collections.abc import Sequence

from orca2_gen.calls import Answer, Budget, generated
from orca2_gen.chat import Chat, encode_text, resumable_ids, template_ids
from orca2_gen.engine import Engine, Request
from orca2_gen.grading.answers import ANSWER_SENTENCES
from orca2_gen.grading.forced_endings import OPENING
from orca2_gen.records import Completion, Problem

ENDINGS_VERSION = 1
"""Raise it with every change to how an ending is asked for: it is part of the stage keys of runs
that ask for endings."""
_ON_A_NEW_LINE = f"\n\n{OPENING}"
_TAIL_IDS = 8


def may_be_forced(problem: Problem, outcome: str) -> bool:
    """Whether an outcome of the text alone lets a forced ending be asked for, and then read."""
    return problem.answer_type in ANSWER_SENTENCES and outcome in ("unparsed", "truncated")


async def forced_ending(
    problem: Problem, answer: Answer, *, engine: Engine, chat: Chat, budget: Budget
) -> tuple[Completion, ...]:
    """The ending of an answer to a problem; empty if none is asked for, or if it does not fit."""
    if budget.answer_max_tokens is None:
        return ()
    last = answer.last
    prompt = ending_prompt(chat, answer.prompt_token_ids, last.token_ids)
    # Lengths were planned, but a further call's prompt may be longer than its plan.
    if len(prompt) + budget.answer_max_tokens > budget.max_model_len:
        return ()
    request = Request(
        problem_id=last.problem_id,
        role=last.role,
        strategy=last.strategy,
        call=last.call + 1,
        attempt=0,
        prompt_token_ids=prompt,
        max_tokens=budget.answer_max_tokens,
        # Many a small model ends its turn at the opening itself, which would leave the cell as it
        # was. More than one would make it go on behind an answer of one token.
        min_tokens=1,
    )
    # A model may begin to think again; what it thinks is not its answer.
    return (await generated(engine, chat, request),)


def ending_prompt(
    chat: Chat, prompt_token_ids: Sequence[int], token_ids: Sequence[int]
) -> tuple[int, ...]:
    """The prompt of a forced ending: a call's prompt, what it generated, the opening of the line.

    The generated ids are the engine's own: encoded again, a text may have others.
    """
    said = resumable_ids(chat, prompt_token_ids, token_ids)
    shown: str = chat.tokenizer.decode(list(said[-_TAIL_IDS:]))
    is_new_line = not said or shown.endswith("\n")
    opening = encode_text(chat, OPENING if is_new_line else _ON_A_NEW_LINE)
    return (*prompt_token_ids, *said, *opening)


def num_ending_ids(chat: Chat) -> int:
    """The most ids between an answer and its forced ending: a thought's closing, the opening."""
    openings = (encode_text(chat, opening) for opening in (OPENING, _ON_A_NEW_LINE))
    closing = "" if chat.thinking is None else chat.thinking.closing
    return len(template_ids(chat, closing)) + max(map(len, openings))
