"""The text that a student's template writes around a row, and the instructions in it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from orca2_gen.chat import Chat, shape_of
from orca2_gen.chat.rows import answer_texts
from orca2_gen.chat.templates import REASONING
from orca2_gen.dataset.instruction_search import InstructionSearch, seen_words
from orca2_gen.quoting import QUOTED_WORDS, Run

PROMPT = ("system", "user")
ROW, THOUGHTFUL_ROW = (*PROMPT, "assistant"), (*PROMPT, REASONING, "assistant")
"""The parts of a row without and with a thought."""
_SPELLED = re.compile(r"<[^<>\s]{1,40}>|\[/?[A-Z_]+\]")
"""A marker that is ordinary text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowTexts:
    """A template's text around the messages of a row, with the cautious message in place."""

    system: str
    before: str
    """Before the system message."""
    between: str
    """Between that and the user's text."""
    behind: str
    """From the user's text to the end of the prompt."""
    opening: str
    """Between the prompt and the thought, or the answer if there is no thought."""
    parting: str
    """Between the thought and the answer."""
    closing: str
    """After the answer."""
    ending: str
    """The part of that which a row has: up to the end of the turn."""

    @property
    def begun(self) -> str:
        """A prompt up to the user's text."""
        return self.before + self.system + self.between

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """Each place where the template writes, and all that stands there."""
        return (
            ("before the system message", self.before),
            ("between the system message and the user's text", self.between),
            ("around the system message", self.begun),
            ("behind the user's text", self.behind),
            ("before the answer", self.opening),
            ("behind the user's text", self.behind + self.opening),
            ("between the thought and the answer", self.parting),
            ("behind the answer", self.ending),
        )


def row_texts(chat: Chat, system: str, parts: tuple[str, ...] = ROW) -> RowTexts:
    """The RowTexts of rows of these parts, which are ROW or THOUGHTFUL_ROW.

    Raises:
        ValueError: the template cannot hold them.
    """
    before, between, behind = shape_of(chat, PROMPT).texts
    answer = answer_texts(chat, parts)
    return RowTexts(
        system=system,
        before=before,
        between=between,
        behind=behind,
        opening=answer.opening,
        parting=answer.between,
        closing=answer.closing,
        ending=_to_end(chat, answer.closing),
    )


def _to_end(chat: Chat, closing: str) -> str:
    ends = [re.escape(token) for token in chat.tokenizer.convert_ids_to_tokens(list(chat.end_ids))]
    end = re.search("|".join(ends), closing)
    return closing[: end.end()] if end is not None else closing


def rendered_sha256(texts: RowTexts, parts: tuple[str, ...] = ROW) -> str:
    """The SHA-256 of a row whose user says {user}, whose thought is {thought} if it has one, and
    whose answer is {answer}.
    """
    said = [texts.begun, "{user}", texts.behind, texts.opening]
    if REASONING in parts:
        said += ["{thought}", texts.parting]
    return hashlib.sha256("".join([*said, "{answer}", texts.closing]).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """Words of an instruction that stand in a row's prompt."""

    name: str
    """Of the instruction."""
    words: Run
    place: str
    """Where they stand."""

    @property
    def sentence(self) -> str:
        said = " ".join(self.words)
        shown = said if len(said) <= 120 else f"{said[:117]}..."
        return f"{len(self.words)} words of the instruction of {self.name}, {shown!r}, {self.place}"


def template_traces(chat: Chat, texts: RowTexts, search: InstructionSearch) -> dict[Run, Trace]:
    """The words of instructions that the template writes into every row."""
    found: dict[Run, Trace] = {}
    for place, text in texts.places:
        real = without_markers(chat, text)
        for variant in dict.fromkeys((text, real, _SPELLED.sub(" ", real))):
            for run, name in search.runs_hidden_in(variant).items():
                found.setdefault(run, Trace(name=name, words=run, place=place))
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Borders:
    """The ends of a template's text at the user's, in which words of an instruction may begin."""

    before: str
    after: str
    are_open: bool
    """Whether words of an instruction can stand across one of them at all."""


def borders_of(chat: Chat, texts: RowTexts, search: InstructionSearch) -> Borders:
    """The Borders of a template's texts."""
    before, after = without_markers(chat, texts.begun), without_markers(chat, texts.behind)
    first, last = seen_words(before), seen_words(after)
    # A template that ends within a word, or begins within one, is looked at with every row.
    joins = seen_words(f"{before}x")[-1] != "x", seen_words(f"x{after}")[0] != "x"
    are_open = any(joins) or not search.words.isdisjoint((*first[-1:], *last[:1]))
    return Borders(
        before=" ".join(first[-QUOTED_WORDS:]) + ("" if joins[0] else " "),
        after=("" if joins[1] else " ") + " ".join(last[:QUOTED_WORDS]),
        are_open=are_open,
    )


def without_markers(chat: Chat, text: str) -> str:
    """The text with a space for each of the model's control tokens."""
    tokens = chat.tokenizer.convert_ids_to_tokens(sorted(chat.marker_ids))
    spelled = sorted((re.escape(token) for token in tokens if token), key=len, reverse=True)
    return re.sub("|".join(spelled), " ", text) if spelled else text
