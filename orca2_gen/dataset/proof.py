"""The proof that the strategy's instruction is gone from every row of a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from orca2_gen.chat import Chat, encode_conversation
from orca2_gen.records import Example
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
