"""A model's chat template, rendered with placeholders -> its own text around each message.

A rendering is pinned: the template's clock shows the run's date, its arguments are the config's,
and a system text that the template would invent is left out. So a conversation has the same text on
every day and on every machine.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orca2_gen.chat.rendering import LAST_YEAR, Rendering
from orca2_gen.chat.template_arguments import check_arguments

# Stands in for a message's content while a template is rendered. No data is rendered beside it, so
# it only has to differ from any template's own text.
_PLACEHOLDER = "zqPLACEHOLDERqz{index}zqENDqz"
_FOLD = "\n\n"
"""Text between a folded system message and the user's."""
_OTHER_DAYS = ("1900-01-01", "2999-12-31")
"""Days that show whether a text depends on the day, beside one 400 days after the run's, which has
another year, month, day of the month and weekday."""

REASONING = "reasoning"
"""Part of a conversation before `assistant`: the thought of that answer."""
DROPPED_REASONING = "dropped reasoning"
"""Part of a conversation before `assistant`: a thought that the template is given and leaves out.
It may write that turn otherwise than one without a thought."""
_THOUGHT_FORMS = ("reasoning_content", "thinking", "reasoning", "chunks", "blocks")
"""Keys under which templates take the thought of a turn; `chunks` is a list in its content, and
`blocks` is one in an object."""
_WRITTEN_AS_IT_IS = re.compile(r"""['"](?:text|thinking)['"]\s*:\s*['"]$""")
"""What stands before a text in a list or object that a template wrote without knowing it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A template's text around the messages of one conversation."""

    texts: tuple[str, ...]
    """One more than there are parts that it shows. The last includes the opening of the assistant's
    turn unless the last message is the assistant's."""
    shows_date: bool
    """Whether `texts` would be others on another day."""
    own_system: str
    """The system text that the template writes by itself if it is given none; else empty."""
    has_own_system: bool
    """Whether that text stands in `texts`, since an empty system message does not keep it out."""
    is_plain: bool
    """Whether transformers' `apply_chat_template`, without arguments, gives these texts on any
    day."""


class TemplateError(ValueError):
    """A template cannot hold a conversation."""

    def __init__(self, reason: str, remedy: str, can_fold: bool = False) -> None:
        super().__init__(reason, remedy, can_fold)  # as they are, so that it can be pickled
        self.reason, self.remedy = reason, remedy
        self.can_fold = can_fold
        """Whether it can if the system text is folded into the user's."""

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}"


class _Clock:
    """The `strftime_now` of transformers, stopped at midnight of a day."""

    def __init__(self, day: datetime.date) -> None:
        self.was_read = False
        self._midnight = datetime.datetime(day.year, day.month, day.day)

    def __call__(self, format: str) -> str:
        self.was_read = True
        seconds = self._midnight.replace(tzinfo=datetime.UTC).timestamp()
        # The system's own %s depends on the time zone of the machine.
        pinned = re.sub(
            "%%|%s", lambda found: found[0] if found[0] == "%%" else f"{seconds:.0f}", format
        )
        return self._midnight.strftime(pinned)

    def __repr__(self) -> str:
        return "strftime_now"  # not an address in memory


@dataclass(frozen=True, kw_only=True, slots=True)
class _Laid:
    """The texts of a conversation on one day."""

    texts: list[str]
    """The texts that the run uses."""
    own_system: str
    is_emptied: bool
    """Whether an empty system message keeps the template's own text out."""


def render_shape(tokenizer: Any, rendering: Rendering, roles: tuple[str, ...]) -> Shape:
    """The Shape of a conversation of these roles.

    Args:
        tokenizer: the transformers tokenizer of the template.
        rendering: the run's.
        roles: the messages' roles, system first if it is there.

    Raises:
        TemplateError: the template refuses, drops, reorders or repeats a message, or is not the
            same twice; one line.
        ValueError: an argument is none of its own.
    """
    check_arguments(tokenizer, rendering.variables)
    day = datetime.date.fromisoformat(rendering.date)
    clock = _Clock(day)
    try:
        laid = _laid(tokenizer, rendering, clock, roles)
    except ValueError as error:
        can_fold = _can_fold(tokenizer, rendering, roles)
        remedy = "use another template"
        if can_fold:
            remedy = 'set system = "fold" for this model'
        elif rendering.variables:
            remedy = f"look at template_arguments, or {remedy}"
        raise TemplateError(str(error), remedy, can_fold) from error
    if _laid(tokenizer, rendering, clock, roles) != laid:
        raise TemplateError(
            f"the chat template renders {', '.join(roles)} differently each time",
            "use one without random parts",
        )
    shows_date = clock.was_read and any(
        _texts_on(tokenizer, rendering, other, roles) != laid.texts for other in _other_days(day)
    )
    is_folded = _is_folded(rendering, roles)
    is_as_it_comes = not (shows_date or laid.is_emptied or is_folded or rendering.variables)
    return Shape(
        texts=tuple(laid.texts),
        shows_date=shows_date,
        own_system=laid.own_system,
        has_own_system=bool(laid.own_system) and not laid.is_emptied,
        is_plain=is_as_it_comes,
    )


def _other_days(day: datetime.date) -> list[datetime.date]:
    later = datetime.timedelta(days=400)
    near = day + later if day.year < LAST_YEAR - 1 else day - later
    return [near, *map(datetime.date.fromisoformat, _OTHER_DAYS)]


def _texts_on(
    tokenizer: Any, rendering: Rendering, day: datetime.date, roles: tuple[str, ...]
) -> list[str] | None:
    """The texts on another day; None if the template refuses that day."""
    try:
        return _laid(tokenizer, rendering, _Clock(day), roles).texts
    except ValueError:
        return None


def _laid(tokenizer: Any, rendering: Rendering, clock: _Clock, roles: tuple[str, ...]) -> _Laid:
    """The texts of a conversation, without the system text that the template writes by itself.

    Qwen2.5 writes "You are Qwen ..." where no system message is given, and nothing for an empty
    one.

    Raises:
        ValueError: the template cannot hold the conversation.
    """
    texts = _texts(tokenizer, rendering, clock, roles)
    is_folded = _is_folded(rendering, roles)
    asked = roles[1:] if is_folded else roles
    if asked[0] == "system":
        return _Laid(texts=texts, own_system="", is_emptied=False)
    unfolded = dataclasses.replace(rendering, system="message")
    try:
        before, after, *_ = _texts(tokenizer, unfolded, clock, ("system", *asked))
        emptied = _texts(tokenizer, rendering, clock, roles, has_empty_system=True)
    except ValueError:
        return _Laid(texts=texts, own_system="", is_emptied=False)
    own = texts[0].removeprefix(before).removesuffix(after)
    if not own or texts[0] != before + own + after:
        return _Laid(texts=texts, own_system="", is_emptied=False)
    is_emptied = emptied == [before + after, *texts[1:]]
    return _Laid(texts=emptied if is_emptied else texts, own_system=own, is_emptied=is_emptied)


def _texts(
    tokenizer: Any,
    rendering: Rendering,
    clock: _Clock,
    roles: Sequence[str],
    *,
    has_empty_system: bool = False,
) -> list[str]:
    """The template's texts before, between and after the messages of these roles."""
    if not {REASONING, DROPPED_REASONING}.intersection(roles):
        return _texts_in_form(tokenizer, rendering, clock, roles, "", has_empty_system)
    for form in _THOUGHT_FORMS[:-1]:
        try:
            return _texts_in_form(tokenizer, rendering, clock, roles, form, has_empty_system)
        except ValueError:
            continue
    return _texts_in_form(tokenizer, rendering, clock, roles, _THOUGHT_FORMS[-1], has_empty_system)


def _texts_in_form(
    tokenizer: Any,
    rendering: Rendering,
    clock: _Clock,
    roles: Sequence[str],
    form: str,
    has_empty_system: bool,
) -> list[str]:
    """The texts of a template that takes thoughts in this form."""
    placeholders = [_PLACEHOLDER.format(index=index) for index in range(len(roles))]
    turns = _turns(roles, placeholders, form)
    if _is_folded(rendering, roles):
        content = f"{placeholders[0]}{_FOLD}{placeholders[1]}"
        turns = [{"role": "user", "content": content}, *turns[2:]]
    if has_empty_system:
        turns = [{"role": "system", "content": ""}, *turns]
    try:
        rest: str = tokenizer.apply_chat_template(
            turns,
            tokenize=False,
            add_generation_prompt=roles[-1] != "assistant",
            strftime_now=clock,  # shadows the one that transformers gives to templates
            **rendering.variables,
        )
    except Exception as error:  # templates raise their own jinja errors, e.g. for a role
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"the chat template refuses a conversation of {', '.join(roles)}: {reason}"
        ) from error
    texts = []
    for role, placeholder in zip(roles, placeholders, strict=True):
        if role == DROPPED_REASONING:
            continue
        before, found, rest = rest.partition(placeholder)
        if not found:
            raise ValueError(f"the chat template drops or reorders the {role} message")
        texts.append(before)
    texts.append(rest)
    if any(placeholder in text for placeholder in placeholders for text in texts):
        raise ValueError("the chat template repeats a message")
    if any(map(_WRITTEN_AS_IT_IS.search, texts[:-1])):
        raise ValueError("the chat template takes no thoughts")
    return texts


def _turns(roles: Sequence[str], texts: Sequence[str], form: str) -> list[dict[str, Any]]:
    """The messages of a conversation of these parts."""
    turns: list[dict[str, Any]] = []
    thought = ""
    for role, text in zip(roles, texts, strict=True):
        if role in (REASONING, DROPPED_REASONING):
            thought = text
            continue
        turn: dict[str, Any] = {"role": role, "content": text}
        if thought and form == "chunks":
            chunks = [{"type": "thinking", "thinking": thought}, {"type": "text", "text": text}]
            turn["content"] = chunks
        elif thought and form == "blocks":
            blocks = [{"type": "thoughts", "text": thought}, {"type": "response", "text": text}]
            turn["content"] = {"blocks": blocks}
        elif thought:
            turn[form] = thought
        turns.append(turn)
        thought = ""
    return turns


def _is_folded(rendering: Rendering, roles: Sequence[str]) -> bool:
    return rendering.system == "fold" and tuple(roles[:2]) == ("system", "user")


def _can_fold(tokenizer: Any, rendering: Rendering, roles: tuple[str, ...]) -> bool:
    folded = dataclasses.replace(rendering, system="fold")
    if folded == rendering or not _is_folded(folded, roles):
        return False
    return _texts_on(tokenizer, folded, datetime.date.fromisoformat(folded.date), roles) is not None
