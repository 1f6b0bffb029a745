"""Rationale -> Example, and the proof that the strategy's instruction is gone.

Orca 2 replaces the system message of every training row by one generic cautious message and leaves
user and assistant text untouched (arXiv 2311.11045, section 4.1): the student must find the
strategy by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from orca2_gen.chat import Chat, ControlTokenError, encode_conversation
from orca2_gen.prompts import prompt_messages
from orca2_gen.records import Example, Message, Rationale, Rejection
from orca2_gen.strategies import Strategies


@dataclass(frozen=True, kw_only=True, slots=True)
class ErasureProof:
    """A manifest's statement about its dataset's prompts, with the digests to check it against."""

    num_examples: int
    num_proved: int
    """Examples whose ids are the encoding of (cautious message, user text) and then the answer, and
    nothing else."""
    instructions_sha256: dict[str, str]
    cautious_message_sha256: str
    tokenizer_digest: str
    """Digest of the tokenizer and template that encode both prompts and proof."""

    @property
    def holds(self) -> bool:
        return self.num_proved == self.num_examples


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
        )
    if len(input_ids) > max_tokens:
        return Rejection(
            problem_id=rationale.problem_id,
            stage="examples",
            reason="too_long",
            detail=f"prompt and answer are {len(input_ids)} tokens, the student takes {max_tokens}",
        )
    return Example(
        problem_id=rationale.problem_id,
        task=rationale.task,
        strategy=rationale.strategy,
        messages=messages,
        input_ids=input_ids,
        num_prompt_tokens=num_prompt_tokens,
    )


def is_erased(example: Example, *, chat: Chat, strategies: Strategies) -> bool:
    """Whether ids and text are exactly the cautious message, one user message and its answer."""
    if not is_told_cautiously(example, strategies):
        return False
    try:
        encoded = encode_conversation(chat, example.messages)
    except ValueError:  # a control token, or a thought of a student that has no markers
        return False
    return (example.input_ids, example.num_prompt_tokens) == encoded


def is_told_cautiously(example: Example, strategies: Strategies) -> bool:
    """Whether the texts are the cautious message, one user message and its answer."""
    roles = [message.role for message in example.messages]
    is_row = roles == ["system", "user", "assistant"]
    return is_row and example.messages[0].content == strategies.cautious_message


def prove(examples: Iterable[Example], *, chat: Chat, strategies: Strategies) -> ErasureProof:
    """The proof over a dataset; it holds iff every example is erased."""
    num_examples = num_proved = 0
    for example in examples:
        num_examples += 1
        num_proved += is_erased(example, chat=chat, strategies=strategies)
    return ErasureProof(
        num_examples=num_examples,
        num_proved=num_proved,
        instructions_sha256={
            name: _sha256(text) for name, text in strategies.every_instruction.items()
        },
        cautious_message_sha256=_sha256(strategies.cautious_message),
        tokenizer_digest=chat.digest,
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
