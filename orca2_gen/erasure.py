"""Rationale -> Example, without the strategy's instruction; see dataset/proof.py for the proof.

Orca 2 replaces the system message of every training row by one generic cautious message and leaves
user and assistant text untouched (arXiv 2311.11045, section 4.1): the student must find the
strategy by itself.
"""

from __future__ import annotations

from orca2_gen.chat import Chat, ControlTokenError, encode_conversation
from orca2_gen.prompts import prompt_messages
from orca2_gen.records import Example, Message, Rationale, Rejection
from orca2_gen.strategies import Strategies


def erase(
    rationale: Rationale,
    *,
    chat: Chat,
    strategies: Strategies,
    prompts: str,
    max_tokens: int,
    keeps_thought: bool = False,
) -> Example | Rejection:
    """The training Example of a rationale, or a Rejection.

    A rationale is rejected if it does not fit the student's context or cannot be encoded as plain
    text.

    Args:
        rationale: the rationale.
        chat: the student's.
        strategies: the run's.
        prompts: `erased`, or `instruction_kept` for the ablation that leaves the instruction in.
        max_tokens: bound of prompt and answer together.
        keeps_thought: whether the teacher's thought is trained too, between the student's markers.

    Raises:
        ValueError: a thought is kept, and the student has no markers for one.
    """
    system = strategies.cautious_message if prompts == "erased" else rationale.system
    thought = rationale.reasoning if keeps_thought else ""
    answer = Message(role="assistant", content=rationale.text, reasoning=thought)
    messages = (*prompt_messages(system, rationale.user), answer)
    try:
        input_ids, num_prompt_tokens = encode_conversation(chat, messages)
    except ControlTokenError as error:
        return Rejection(
            problem_id=rationale.problem_id,
            stage="examples",
            reason="control_token",
            detail=f"the teacher's {error}",
            attempt=rationale.attempt,
        )
    if len(input_ids) > max_tokens:
        return Rejection(
            problem_id=rationale.problem_id,
            stage="examples",
            reason="too_long",
            detail=f"prompt and answer are {len(input_ids)} tokens, the student takes {max_tokens}",
            attempt=rationale.attempt,
        )
    return Example(
        problem_id=rationale.problem_id,
        task=rationale.task,
        strategy=rationale.strategy,
        messages=messages,
        input_ids=input_ids,
        num_prompt_tokens=num_prompt_tokens,
        attempt=rationale.attempt,
    )
