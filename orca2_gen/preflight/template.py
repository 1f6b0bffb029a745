"""Can a model's tokenizer be loaded, and does its chat template render our conversations?"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from orca2_gen.chat import Chat, Rendering, Shape, TemplateError, encode_prompt, shape_of
from orca2_gen.chat.rows import answer_texts
from orca2_gen.chat.templates import render_shape
from orca2_gen.config.arguments import Room
from orca2_gen.lengths import length_budget
from orca2_gen.prompts import conversation_roles
from orca2_gen.records import Message
from orca2_gen.run_directory.digests import TOKENIZER_FILES
from orca2_gen.run_directory.regular_files import UnusableFile, read_regular
from orca2_gen.strategies import Strategies

_MOST_BYTES = 256 << 20
"""Bytes of a tokenizer's file; the largest published ones have about 35 million."""


_PROSE_WORDS = 3
"""Words from which on a template's text is more than the name of a role."""
ChatOf = Callable[[str, Rendering], Chat]
"""Directory and rendering -> its Chat."""


def loaded_chat(key: str, directory: str, rendering: Rendering, chat_of: ChatOf) -> Chat:
    """The Chat of a tokenizer directory.

    Raises:
        ValueError: its files are absent, damaged or of no use; one line that names the key.
    """
    check_tokenizer_files(key, Path(directory))
    try:
        chat = chat_of(directory, rendering)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the tokenizers library panics, which is no Exception
        raise unloadable(key, directory, error) from error
    return chat


def check_tokenizer_files(key: str, directory: Path) -> None:
    """Checks that each file of a tokenizer that is there is an object in JSON.

    Raises:
        ValueError: one is not; one line that names the key.
    """
    for name in TOKENIZER_FILES:
        if name.endswith(".json"):
            _check_json(key, directory / name)


def unloadable(key: str, directory: str, error: BaseException) -> ValueError:
    """The error in one line of a tokenizer that a library fails to load with this error."""
    reason = _first_line(error)
    if isinstance(error, ValueError) and reason.startswith(directory):
        return ValueError(f"{key}: {reason}")
    return ValueError(
        f"{key}: the tokenizer in {directory} cannot be loaded ({reason}); copy the model "
        "again, or save its tokenizer with save_pretrained"
    )


def check_template(key: str, room: Room, chat: Chat, strategies: Strategies) -> None:
    """Checks that every conversation of a run can be rendered, prompts and training rows alike.

    Raises:
        ValueError: the template has a fault, or refuses a conversation; one line with the key.
    """
    try:
        length_budget(room, chat, strategies)
        for roles in _asked(room, strategies):
            shape_of(chat, roles)
    except TemplateError as error:
        if not error.can_fold:
            raise ValueError(f"{key}: {_first_line(error)}") from error
        section = key.partition(".")[0]
        raise ValueError(
            f'{key}: {error.reason}; set {section}.system = "fold", which puts the system text '
            "before the first user text, or use another template"
        ) from error
    except ValueError as error:
        named = _first_line(error).removeprefix(f"{room.tokenizer}: ")
        raise ValueError(f"{key}: {room.tokenizer}: {named}") from error


def _asked(room: Room, strategies: Strategies) -> Iterator[tuple[str, ...]]:
    """The roles of the conversations that are rendered besides the prompts of the problems."""
    if room.judged_tokens is not None:
        yield ("system", "user")
    elif room.role == "student":
        texts = [strategies.cautious_message, *strategies.every_instruction.values()]
        for has_system in {bool(text) for text in texts}:
            yield ("system", "user", "assistant") if has_system else ("user", "assistant")


def template_lines(room: Room, chat: Chat, strategies: Strategies) -> tuple[list[str], list[str]]:
    """What a template does with a run's conversations, and what of it is odd, in lines for people.

    The template has passed `check_template`.
    """
    shapes = []
    for roles in sorted({*conversation_roles(strategies), ("user",)}):
        with contextlib.suppress(ValueError):  # of a conversation that the run does not have
            shapes.append((roles, shape_of(chat, roles)))
    facts = [_ends(chat)]
    odd = []
    if any(shape.shows_date for _, shape in shapes):
        facts.append(f"the template shows the date, {chat.rendering.date}")
    if room.rendering.variables:
        facts.append(f"the template gets {room.rendering.arguments}")
    if room.rendering.system == "fold":
        facts.append("system texts stand before the first user text")
    if prose := list(_prose(chat, dict(shapes))):
        facts.append(f"a prompt also holds the template's {', '.join(map(_quoted, prose))}")
    if chat.thinking is not None:
        start, end = chat.thinking.opening.strip(), chat.thinking.closing.strip()
        facts.append(f"a thought stands between {start} and {end}")
    if own := next((shape for _, shape in shapes if shape.own_system), None):
        done = "cannot keep it out" if own.has_own_system else "keeps it out with an empty one"
        odd.append(
            f"without a system text, the template writes {_quoted(own.own_system)}; the run {done}"
        )
    odd += _idle_arguments(chat, dict(shapes))
    odd += _openings(chat, dict(shapes))
    odd += _closings(chat, dict(shapes))
    return facts, odd


def _ends(chat: Chat) -> str:
    first = encode_prompt(chat, [Message(role="user", content="1")])[0]
    is_bos = first == chat.tokenizer.bos_token_id
    begins = f"a prompt begins with {_token(chat, first)}, " if is_bos else ""
    ends = ", ".join(_token(chat, end) for end in sorted(chat.end_ids))
    return f"{begins}an answer ends with {ends}"


def _openings(chat: Chat, shapes: Mapping[tuple[str, ...], Shape]) -> Iterator[str]:
    """A line if a training row does not go on from its prompt with the answer."""
    for roles in (("system", "user", "assistant"), ("user", "assistant")):
        if roles not in shapes or roles[:-1] not in shapes:
            continue
        prompt, more = shapes[roles[:-1]].texts[-1], answer_texts(chat, roles).opening
        if more.strip() and shapes[roles].texts[-2].endswith(more):
            yield f"a training row writes {_quoted(more)} before its answer, as the template does"
        elif more.strip() and chat.thinking is not None:
            yield (
                f"a prompt begins a thought with {_quoted(chat.thinking.opening)}; a training row "
                f"without one closes it with {_quoted(more)}"
            )
        elif not shapes[roles].texts[-2].startswith(prompt):
            written = shapes[roles].texts[-2]
            yield (
                f"a prompt opens the answer with {_quoted(prompt)}, the template's whole "
                f"conversation with {_quoted(written)}; a training row has the first"
            )
        return


def _prose(chat: Chat, shapes: Mapping[tuple[str, ...], Shape]) -> Iterator[str]:
    """The texts of three words or more, control tokens aside, that a prompt has of the template."""
    control = map(re.escape, sorted(map(str, chat.tokenizer.added_tokens_decoder.values())))
    between = re.compile("|".join(control) or r"(?!)")
    prompt = shapes.get(("system", "user")) or shapes.get(("user",))
    for text in prompt.texts if prompt is not None else ():
        yield from (part for part in between.split(text) if len(part.split()) >= _PROSE_WORDS)


def _idle_arguments(chat: Chat, shapes: Mapping[tuple[str, ...], Shape]) -> Iterator[str]:
    """A line for each argument without which the template renders the same."""
    variables = chat.rendering.variables
    for name in variables:
        others = {key: value for key, value in variables.items() if key != name}
        without = dataclasses.replace(chat.rendering, arguments=json.dumps(others, sort_keys=True))
        with contextlib.suppress(ValueError):  # the template cannot do without it
            if all(
                render_shape(chat.tokenizer, without, roles).texts == shape.texts
                for roles, shape in shapes.items()
            ):
                yield f"template_arguments.{name} changes nothing in what the run renders"


def _closings(chat: Chat, shapes: Mapping[tuple[str, ...], Shape]) -> Iterator[str]:
    """A line if the template closes the answer of a row with no token that ends an answer."""
    row = shapes.get(("system", "user", "assistant"))
    ends = [chat.tokenizer.convert_ids_to_tokens(end) for end in chat.end_ids]
    if row is not None and not any(end in row.texts[-1] for end in ends):
        yield (
            f"a conversation closes an answer with {_quoted(row.texts[-1])}, which ends no answer; "
            f"a training row ends with {_token(chat, chat.end_id)}"
        )


def _token(chat: Chat, token_id: int) -> str:
    return f"{chat.tokenizer.convert_ids_to_tokens(token_id)} ({token_id})"


def _quoted(text: str) -> str:
    shown = " ".join(text.split()) or text
    return repr(shown if len(shown) <= 80 else f"{shown[:77]}...")


def _check_json(key: str, path: Path) -> None:
    if not path.is_file():
        return
    try:
        body = json.loads(read_regular(path, _MOST_BYTES))
    except UnusableFile as error:
        raise ValueError(f"{key}: {error}; copy the model again") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{key}: {path} is damaged: not JSON; copy the model again") from error
    if not isinstance(body, dict):
        raise ValueError(
            f"{key}: {path} is damaged: expected a JSON object, found something else; "
            "copy the model again"
        )
    ends = body.get("eos_token_id") if path.name == "generation_config.json" else None
    for token in ends if isinstance(ends, list) else [ends]:
        if token is not None and type(token) is not int:
            raise ValueError(
                f"{key}: eos_token_id in {path} is {token!r}: expected a whole number, or a list "
                "of them; copy the model again"
            )


def _first_line(error: BaseException) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "a file in it is not UTF-8"
    if isinstance(error, KeyError):
        return f"a file in it lacks {error}"
    lines = str(error).split("\n")
    return (lines[0].strip() or type(error).__name__)[:300]
