"""Messages -> token ids: the template's segments and the data between them, each encoded apart.

    prompt ids = T0 + data(system) + T1 + data(user) + T2

T0, T1 and T2 are the template's segments, encoded once per conversation shape and cached. Data is
encoded by a tokenizer that knows no added token, so no data becomes a control token.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca2_gen.chat.templates import PLAIN, Rendering, Shape, TemplateError, render_shape
from orca2_gen.records import Message
from orca2_gen.run_directory.digests import TOKENIZER_FILES

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ENCODING_VERSION = 1
"""Raise it with every change that can alter an id of a conversation: part of the stage keys."""


class ControlTokenError(ValueError):
    """The data tokenizer turned data into a control token: the row must be rejected, not sent."""


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
    """Encodes messages: knows no added token, adds no leading space."""
    control_ids: frozenset[int]
    """Ids that data must never become."""
    end_ids: frozenset[int]
    """Ids that end a turn: the tokenizer's and the generation config's eos."""
    end_id: int
    """The end id that closes a turn if the template does not."""
    digest: str
    """Digest of tokenizer, template and end ids, and of the segments of a training row where they
    depend on the rendering; the dataset's manifest holds it."""
    undated_digest: str
    """The digest without the segments: older manifests hold it."""
    shapes: dict[tuple[str, ...], Shape] = field(default_factory=dict)
    """Cache: roles of a conversation -> the template's text around its messages."""
    segments: dict[tuple[str, ...], tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    """Cache: roles of a conversation -> ids of that text."""


_ROW = (("system", "user"), ("system", "user", "assistant"))
"""Roles of the conversations that make a training row."""


@functools.lru_cache(maxsize=8)
def load_chat(model_dir: str, rendering: Rendering = PLAIN) -> Chat:
    """The Chat of a model directory, whose template renders in this way.

    Raises:
        ValueError: the directory holds no tokenizer, or one without a fast (tokenizers) backend or
            without a chat template.
    """
    from transformers import AutoTokenizer

    files = [name for name in TOKENIZER_FILES if name != "generation_config.json"]
    if not any((Path(model_dir) / name).is_file() for name in files):
        raise ValueError(
            f"{model_dir} holds no tokenizer (none of {', '.join(files)}); give a model directory"
        )
    tokenizer = AutoTokenizer.from_pretrained(
        model_dir, local_files_only=True, trust_remote_code=False
    )
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{model_dir}: the tokenizer has no tokenizer.json; convert it with save_pretrained "
            "first"
        )
    if not tokenizer.chat_template:
        raise ValueError(
            f"{model_dir} has no chat template; add chat_template.jinja or take a chat model"
        )
    specification = json.loads(tokenizer.backend_tokenizer.to_str())
    control = set(tokenizer.all_special_ids)
    control |= {i for i, token in tokenizer.added_tokens_decoder.items() if not _is_blank(token)}
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id != tokenizer.eos_token_id:
        control.discard(tokenizer.unk_token_id)  # stands for a rare character; it controls nothing
    end_ids = _end_ids(Path(model_dir), tokenizer)
    digest = _digest(specification, tokenizer.chat_template, end_ids)
    chat = Chat(
        directory=model_dir,
        rendering=rendering,
        tokenizer=tokenizer,
        template_tokenizer=_without_leading_space(specification),
        data_tokenizer=_without_leading_space({**specification, "added_tokens": []}),
        control_ids=frozenset(control),
        end_ids=end_ids,
        end_id=min(end_ids) if tokenizer.eos_token_id is None else tokenizer.eos_token_id,
        digest=digest,
        undated_digest=digest,
    )
    if not (rendered := rendered_texts(chat, _ROW)):
        return chat
    digest = hashlib.sha256(f"{chat.digest} {rendered['sha256']}".encode()).hexdigest()
    return dataclasses.replace(chat, digest=digest)


def rendered_texts(chat: Chat, conversations: Iterable[tuple[str, ...]]) -> dict[str, Any]:
    """The digest of the template's text in conversations of these roles, and what it depends on.

    It is empty if the text is what the template alone makes of them on any day, so that a run whose
    config says nothing about templates keeps its stage keys. A conversation that the template
    refuses counts as refused.
    """
    shapes: dict[str, Shape | None] = {}
    for roles in sorted(set(conversations)):
        try:
            shapes[" ".join(roles)] = shape_of(chat, roles)
        except TemplateError:
            shapes[" ".join(roles)] = None
    held = [shape for shape in shapes.values() if shape is not None]
    if all(shape.is_plain for shape in held):
        return {}
    texts = {roles: None if shape is None else shape.texts for roles, shape in shapes.items()}
    found: dict[str, Any] = {
        "sha256": hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()
    }
    if any(shape.shows_date for shape in held):
        found["template_date"] = chat.rendering.date
    if chat.rendering.variables:
        found["template_arguments"] = chat.rendering.variables
    if chat.rendering.system != PLAIN.system:
        found["system"] = chat.rendering.system
    return found


def shape_of(chat: Chat, roles: tuple[str, ...]) -> Shape:
    """The template's text around the messages of these roles.

    Raises:
        TemplateError: the template cannot hold them; one line that names the directory.
        ValueError: an argument of the rendering is none of the template's.
    """
    if roles not in chat.shapes:
        try:
            chat.shapes[roles] = render_shape(chat.tokenizer, chat.rendering, roles)
        except TemplateError as error:
            reason = f"{chat.directory}: {error.reason}"
            raise TemplateError(reason, error.remedy, error.can_fold) from error
        except ValueError as error:
            raise ValueError(f"{chat.directory}: {error}") from error
    return chat.shapes[roles]


def tokenizer_digest(model_dir: str) -> str:
    """The digest of a model directory's tokenizer and template, as manifests hold it."""
    return load_chat(model_dir).digest


def encode_text(chat: Chat, text: str) -> list[int]:
    """Token ids of data, whatever it spells.

    Raises:
        ControlTokenError: the ids contain one that only the template may use.
    """
    ids: list[int] = chat.data_tokenizer.encode(text, add_special_tokens=False).ids
    if not chat.control_ids.isdisjoint(ids):
        found = sorted(chat.control_ids.intersection(ids))
        raise ControlTokenError(
            f"text of {len(text)} characters encodes to control token ids {found}"
        )
    return ids


def encode_prompt(chat: Chat, messages: Sequence[Message]) -> tuple[int, ...]:
    """Token ids of the messages and of the template's opening of the assistant's turn."""
    return _join(chat, _segments(chat, tuple(m.role for m in messages)), messages)


def encode_conversation(chat: Chat, messages: Sequence[Message]) -> tuple[tuple[int, ...], int]:
    """Token ids of a conversation through its end-of-turn token, and how many are the prompt.

    The prompt's ids equal `encode_prompt` of all but the last message: training sees what
    generation sees.
    """
    assert messages[-1].role == "assistant"
    prompt = encode_prompt(chat, messages[:-1])
    closing = _segments(chat, tuple(m.role for m in messages))[-1]
    ends = [position for position, token in enumerate(closing) if token in chat.end_ids]
    # A template that closes a turn without an end token would teach the model never to stop.
    ending = closing[: ends[0] + 1] if ends else (*closing, chat.end_id)
    return (*prompt, *encode_text(chat, messages[-1].content), *ending), len(prompt)


def _join(
    chat: Chat, segments: tuple[tuple[int, ...], ...], messages: Sequence[Message]
) -> tuple[int, ...]:
    ids = list(segments[0])
    for message, segment in zip(messages, segments[1:], strict=True):
        ids += encode_text(chat, message.content)
        ids += segment
    return tuple(ids)


def _segments(chat: Chat, roles: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    """Token ids of the template around each message.

    They include the assistant's opening unless the last turn is the assistant's.
    """
    if roles not in chat.segments:
        texts = shape_of(chat, roles).texts
        chat.segments[roles] = tuple(
            _encode_template(chat, i, text) for i, text in enumerate(texts)
        )
    return chat.segments[roles]


def _encode_template(chat: Chat, index: int, text: str) -> tuple[int, ...]:
    if index > 0:
        return tuple(chat.template_tokenizer.encode(text, add_special_tokens=False).ids)
    # Only the very start of a text gets the leading space of a sentencepiece tokenizer.
    ids = tuple(chat.tokenizer.encode(text, add_special_tokens=False))
    twice = len(ids) > 1 and ids[0] == ids[1] == chat.tokenizer.bos_token_id
    return ids[1:] if twice else ids


def _without_leading_space(specification: dict[str, Any]) -> Tokenizer:
    """A tokenizer of this JSON that adds neither special tokens nor sentencepiece's leading space.

    Segments are encoded one by one; a leading space at each seam would put text into the prompt
    that no conversation holds.
    """
    from tokenizers import Tokenizer

    spec = copy.deepcopy(specification) | {
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }
    spec["normalizer"] = _without_prepend(spec["normalizer"])
    for splitter in _parts(spec["pre_tokenizer"], "pretokenizers"):
        if splitter["type"] == "Metaspace":
            splitter["prepend_scheme"] = "never"
    return Tokenizer.from_str(json.dumps(spec))


def _is_blank(token: Any) -> bool:
    """Whether an added token is white space, as a newline is one in Gemma's vocabulary."""
    return not (token.special or token.content.replace("\u2581", " ").strip())


def _without_prepend(normalizer: dict[str, Any] | None) -> dict[str, Any] | None:
    if normalizer is None or normalizer["type"] == "Prepend":
        return None
    if normalizer["type"] != "Sequence":
        return normalizer
    kept = [part for part in normalizer["normalizers"] if part["type"] != "Prepend"]
    return {"type": "Sequence", "normalizers": kept}


def _parts(node: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
    if node is None:
        return []
    parts: list[dict[str, Any]] = node[key] if node["type"] == "Sequence" else [node]
    return parts


def _end_ids(model_dir: Path, tokenizer: Any) -> frozenset[int]:
    ends = {tokenizer.eos_token_id}
    generation_config = model_dir / "generation_config.json"
    if generation_config.is_file():
        eos = json.loads(generation_config.read_text()).get("eos_token_id")
        ends.update(eos if isinstance(eos, list) else [eos])
    ends.discard(None)
    if not ends:
        raise ValueError(
            f"{model_dir} names no end-of-sequence token; set eos_token in tokenizer_config.json"
        )
    return frozenset(ends)


def _digest(specification: dict[str, Any], template: Any, end_ids: frozenset[int]) -> str:
    canonical = json.dumps(
        [specification, template, sorted(end_ids)], sort_keys=True, ensure_ascii=True
    )
    return hashlib.sha256(canonical.encode()).hexdigest()
