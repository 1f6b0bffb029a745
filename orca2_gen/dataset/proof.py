"""The proof that the strategy's instruction is gone from every row of a dataset."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from orca2_gen.chat import Chat, encode_conversations
from orca2_gen.dataset.instruction_search import (
    InstructionSearch,
    instruction_search,
    seen_words,
)
from orca2_gen.dataset.prompt_search import PromptSearch
from orca2_gen.dataset.shards import messages_in, names_in
from orca2_gen.dataset.template_texts import Trace
from orca2_gen.quoting import QUOTED_WORDS, Run, unheard
from orca2_gen.records import Message
from orca2_gen.strategies import Strategies


@dataclass(frozen=True, kw_only=True, slots=True)
class ErasureProof:
    """A manifest's statement about its dataset's prompts, with the digests to check it against.

    Older versions left out the fields with a default.
    """

    num_examples: int
    num_proved: int
    """Examples whose ids are the encoding of (cautious message, user text) and then the answer, and
    nothing else."""
    instructions_sha256: dict[str, str]
    cautious_message_sha256: str
    tokenizer_digest: str
    """Digest of the tokenizer and template that encode both prompts and proof."""
    further_calls_sha256: dict[str, list[str]] = field(default_factory=dict)
    """Strategy -> the hashes of what its further calls say, which no student is shown either."""
    quoted_words: int | None = None
    """Words in a row of an instruction that count; of a shorter one, all do."""
    num_unsought: int | None = None
    """Instructions and further calls that are too short to be looked for."""
    num_instructed: int | None = None
    """Examples whose prompt holds words of an instruction that its user's own text does not: the
    template wrote them, or they stand across its text and the user's."""
    num_quoting: int | None = None
    """Examples whose answer, or thought that is in the row, quotes words of an instruction that the
    user's text does not hold. They break no proof."""
    rendered_sha256: dict[str, str] = field(default_factory=dict)
    """Parts of a row -> the hash of the text that the template writes around it: of the cautious
    message, the user's text {user}, the thought {thought} if there is one, and the answer
    {answer}."""
    digest: str = ""
    """SHA-256 of all other fields, as JSON with sorted keys."""

    @property
    def holds(self) -> bool:
        return self.num_proved == self.num_examples and not self.num_instructed

    @property
    def is_older(self) -> bool:
        """Whether it says nothing of the fields with a default."""
        return not self.digest

    def as_older(self) -> ErasureProof:
        """The proof without the fields with a default."""
        return ErasureProof(
            num_examples=self.num_examples,
            num_proved=self.num_proved,
            instructions_sha256=self.instructions_sha256,
            cautious_message_sha256=self.cautious_message_sha256,
            tokenizer_digest=self.tokenizer_digest,
        )

    def computed_digest(self) -> str:
        """What its digest should be."""
        body = dataclasses.asdict(self)
        del body["digest"]
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


@dataclass(kw_only=True, slots=True)
class RowsProved:
    """What is proved of rows, as they come a batch at a time."""

    strategies: Strategies
    chat: Chat | None
    """The student's; without it, texts are proved and no ids, and no template is looked at."""
    by_ids: bool = True
    """Whether ids are proved too."""
    num_examples: int = 0
    num_proved: int = 0
    num_instructed: int = 0
    num_quoting: int = 0
    unproved: str = ""
    """Id of the first row that is not proved."""
    instructed: str = ""
    """Id of the first row whose prompt holds words of an instruction."""
    trace: Trace | None = None
    """Those words."""
    search: InstructionSearch = field(init=False)
    prompts: PromptSearch | None = field(init=False)

    def __post_init__(self) -> None:
        cautious = self.strategies.cautious_message
        self.search = instruction_search(self.strategies)
        self.prompts = None
        if self.chat is not None:
            self.prompts = PromptSearch(chat=self.chat, system=cautious, search=self.search)

    def add(self, batch: pa.RecordBatch) -> None:
        """Looks at a batch of a shard too."""
        conversations = messages_in(batch)
        ids = names_in(batch)
        are_told = [is_told_cautiously(messages, self.strategies) for messages in conversations]
        are_proved = are_told
        if self.chat is not None and self.by_ids:
            are_proved = _are_encoded(batch, conversations, are_told, self.chat)
        self.num_examples += len(ids)
        self.num_proved += sum(are_proved)
        if not self.unproved and not all(are_proved):
            self.unproved = ids[are_proved.index(False)]
        for problem_id, messages, is_told in zip(ids, conversations, are_told, strict=True):
            self.num_quoting += self._quotes(messages)
            if is_told and self.prompts is not None and (trace := self.prompts.trace_in(messages)):
                self.num_instructed += 1
                self.trace, self.instructed = self.trace or trace, self.instructed or problem_id

    def proof(self) -> ErasureProof:
        """The proof over all rows so far; it holds iff every one is erased."""
        strategies, tokenizer = self.strategies, self.chat.digest if self.chat is not None else ""
        proof = ErasureProof(
            num_examples=self.num_examples,
            num_proved=self.num_proved,
            instructions_sha256={
                name: sha256_of(text) for name, text in strategies.every_instruction.items()
            },
            cautious_message_sha256=sha256_of(strategies.cautious_message),
            tokenizer_digest=tokenizer,
            further_calls_sha256=further_calls_sha256(strategies),
            quoted_words=QUOTED_WORDS,
            num_unsought=self.search.num_unsought,
            num_instructed=self.num_instructed if self.prompts is not None else None,
            num_quoting=self.num_quoting,
            rendered_sha256=self.prompts.rendered_sha256 if self.prompts is not None else {},
        )
        return dataclasses.replace(proof, digest=proof.computed_digest())

    def _quotes(self, messages: Sequence[Message]) -> bool:
        """Whether the answer of a row quotes an instruction, or its thought does."""
        runs: set[Run] = set()
        for answer in messages[-1:]:
            runs |= self.search.runs_in(seen_words(answer.content))
            if answer.reasoning:
                runs |= self.search.runs_in(seen_words(answer.reasoning))
        if not runs:
            return False
        for user in (message for message in messages if message.role == "user"):
            runs = unheard(runs, seen_words(user.content))
        return bool(runs)


def is_told_cautiously(messages: Sequence[Message], strategies: Strategies) -> bool:
    """Whether the texts are the cautious message, one user message and its answer."""
    is_row = [message.role for message in messages] == ["system", "user", "assistant"]
    return is_row and messages[0].content == strategies.cautious_message


def prove(batches: Iterable[pa.RecordBatch], *, chat: Chat, strategies: Strategies) -> ErasureProof:
    """The proof over a dataset; it holds iff every row is erased."""
    return _rows_proved(batches, chat, strategies).proof()


def checked_proof(
    batches: Iterable[pa.RecordBatch], root: Path, *, chat: Chat, strategies: Strategies
) -> ErasureProof:
    """The proof over the dataset of a directory, which holds.

    Raises:
        ValueError: it does not; one line that says why.
    """
    rows = _rows_proved(batches, chat, strategies)
    proof = rows.proof()
    if proof.num_proved != proof.num_examples:
        raise ValueError(
            f"{proof.num_examples - proof.num_proved} of {proof.num_examples} examples in {root} "
            "have a prompt other than (cautious message, user text): their strategy is not erased; "
            "no manifest was written"
        )
    if rows.trace is not None:
        raise ValueError(
            f"{proof.num_instructed} of {proof.num_examples} examples in {root} are not erased, "
            f"e.g. {rows.instructed}: the chat template of {chat.directory} writes "
            f"{rows.trace.sentence}; no manifest was written; take the words out of the template "
            "and run in another run_dir"
        )
    return proof


def _rows_proved(
    batches: Iterable[pa.RecordBatch], chat: Chat, strategies: Strategies
) -> RowsProved:
    rows = RowsProved(strategies=strategies, chat=chat)
    for batch in batches:
        rows.add(batch)
    return rows


def _are_encoded(
    batch: pa.RecordBatch,
    conversations: Sequence[Sequence[Message]],
    are_told: Sequence[bool],
    chat: Chat,
) -> list[bool]:
    """For each row of a shard's batch, whether it is told cautiously, and its ids are exactly those
    of its texts.
    """
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


def further_calls_sha256(strategies: Strategies) -> dict[str, list[str]]:
    """Strategy -> the hashes of what its further calls say."""
    return {name: [*map(sha256_of, texts)] for name, texts in strategies.further_calls.items()}


def sha256_of(text: str) -> str:
    """The hash of a text, as a proof holds it."""
    return hashlib.sha256(text.encode()).hexdigest()
