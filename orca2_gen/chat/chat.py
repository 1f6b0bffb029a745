"""A model's tokenizer and template, and the template's text around the messages of conversations.

A conversation's parts are the roles of its messages, with `reasoning` before an `assistant` that
has a thought: system, user, reasoning, assistant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orca2_gen.chat.rendering import Rendering
from orca2_gen.chat.templates import REASONING, Shape, TemplateError, render_shape
from orca2_gen.records import Message

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Parts = tuple[str, ...]
"""The parts of a conversation, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thinking:
    """The markers around a model's thoughts."""

    opening: str
    """The template's text between the opening of the turn and the thought."""
    closing: str
    """The template's text between the thought and the answer."""
    ending: str
    """The part of `closing` that ends the thought; what is left of it begins the answer."""
    start: tuple[int, ...]
    """Ids that begin a thought, white space left out; empty if the markers are ordinary text."""
    end: tuple[int, ...]
    """Ids of `ending`; empty likewise."""
    further: tuple[tuple[int, ...], ...] = ()
    """Ids that begin another thought right behind `end`, where thoughts and answer are messages of
    one turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answering:
    """A template's own text around an answer, which a model generates with it."""

    opening: str = ""
    """Before an answer without a thought; white space alone counts as nothing."""
    start: tuple[int, ...] = ()
    """Its ids; empty if it is ordinary text."""
    end: tuple[int, ...] = ()
    """Ids between an answer and the end of the turn; empty if they are ordinary text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chat:
    """A model's tokenizer and template, ready to encode conversations."""

    directory: str
    rendering: Rendering
    tokenizer: Any
    """The transformers tokenizer: renders the template and encodes its first segment."""
    template_tokenizer: Tokenizer
    """Encodes later template segments: knows the control tokens, adds no leading space."""
    data_tokenizer: Tokenizer
    """Encodes messages: knows no added token but white space, adds no leading space."""
    control_ids: frozenset[int]
    """Ids that data must never become."""
    marker_ids: frozenset[int]
    """Those of them that control something: not the words that some tokenizers add."""
    end_ids: frozenset[int]
    """Ids that end a turn: the tokenizer's and the generation config's eos."""
    end_id: int
    """The end id that closes a turn if the template does not."""
    digest: str
    """Digest of tokenizer, template and end ids, and of the segments of a training row where they
    depend on the rendering; the dataset's manifest holds it."""
    undated_digest: str
    """The digest without the segments: older manifests hold it."""
    has_older_data: bool
    """Whether older versions encoded data otherwise, whatever the template."""
    thinking: Thinking | None = None
    """The markers around the model's thoughts; None if it has none."""
    answering: Answering = field(default_factory=Answering)
    shapes: dict[Parts, Shape] = field(default_factory=dict)
    """Cache: parts of a conversation -> the template's text around them."""
    segments: dict[tuple[bool, str], tuple[int, ...]] = field(default_factory=dict)
    """Cache: whether a text begins a conversation, and the text -> its ids."""


def shape_of(chat: Chat, parts: Parts) -> Shape:
    """The template's text around the parts of a conversation.

    Raises:
        TemplateError: the template cannot hold them; one line that names the directory.
        ValueError: an argument of the rendering is none of the template's.
    """
    if parts not in chat.shapes:
        try:
            chat.shapes[parts] = render_shape(chat.tokenizer, chat.rendering, parts)
        except TemplateError as error:
            reason = f"{chat.directory}: {error.reason}"
            raise TemplateError(reason, error.remedy, error.can_fold) from error
        except ValueError as error:
            raise ValueError(f"{chat.directory}: {error}") from error
    return chat.shapes[parts]


def parts_of(messages: Sequence[Message]) -> Parts:
    """The parts of a conversation."""
    return tuple(
        part
        for message in messages
        for part in ((REASONING, message.role) if message.reasoning else (message.role,))
    )


def contents_of(messages: Sequence[Message]) -> list[str]:
    """The text of each part of a conversation."""
    said: list[str] = []
    for message in messages:
        said += [message.reasoning, message.content] if message.reasoning else [message.content]
    return said
