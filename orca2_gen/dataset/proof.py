"""The proof that the strategy's instruction is gone from every row of a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from orca2_gen.chat import Chat, encode_conversations
from orca2_gen.dataset.shards import messages_in
from orca2_gen.records import Message
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


def are_erased(batch: pa.RecordBatch, *, chat: Chat, strategies: Strategies) -> list[bool]:
    """For each row of a shard's batch, whether ids and text are exactly the cautious message, one
    user message and its answer.
    """
    conversations = messages_in(batch)
    are_told = [is_told_cautiously(messages, strategies) for messages in conversations]
    told = [messages for messages, is_told in zip(conversations, are_told, strict=True) if is_told]
    encoded = iter(encode_conversations(chat, told))
    starts = batch.column("input_ids").offsets.to_pylist()
    ids = batch.column("input_ids").values.to_numpy(zero_copy_only=False)
    lengths = batch.column("num_prompt_tokens").to_pylist()
    found = []
    for is_told, start, end, length in zip(are_told, starts, starts[1:], lengths, strict=False):
        # An error is a control token, or a thought of a student that has no markers.
        wanted = next(encoded) if is_told else None
        found.append(wanted == (tuple(ids[start:end].tolist()), length))
    return found


def is_told_cautiously(messages: Sequence[Message], strategies: Strategies) -> bool:
    """Whether the texts are the cautious message, one user message and its answer."""
    is_row = [message.role for message in messages] == ["system", "user", "assistant"]
    return is_row and messages[0].content == strategies.cautious_message


def prove(batches: Iterable[pa.RecordBatch], *, chat: Chat, strategies: Strategies) -> ErasureProof:
    """The proof over a dataset; it holds iff every row is erased."""
    num_examples = num_proved = 0
    for batch in batches:
        num_examples += batch.num_rows
        num_proved += sum(are_erased(batch, chat=chat, strategies=strategies))
    return proof_of(num_examples, num_proved, chat=chat, strategies=strategies)


def proof_of(
    num_examples: int, num_proved: int, *, chat: Chat, strategies: Strategies
) -> ErasureProof:
    """The proof of so many rows, of which so many are erased."""
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
