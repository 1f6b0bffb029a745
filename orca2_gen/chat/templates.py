"""A model's chat template, rendered with placeholders -> its own text around each message.

A rendering is pinned: the template's clock shows the run's date, its arguments are the config's,
and a system text that the template would invent is left out. So a conversation has the same text on
every day and on every machine.
"""

from __future__ import annotations

import datetime
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

# Stands in for a message's content while a template is rendered. No data is rendered beside it, so
# it only has to differ from any template's own text.
_PLACEHOLDER = "zqPLACEHOLDERqz{index}zqENDqz"
_FOLD = "\n\n"
"""Text between a folded system message and the user's."""
_OTHER_DAY = 400
"""Days to a day with another year, month, day of the month and weekday, whichever is shown."""

SystemPolicy = Literal["message", "fold"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendering:
    """All that a template's text depends on beside the template and the roles."""

    date: str = "2023-11-21"
    """The day, as YYYY-MM-DD, that the template's `strftime_now` tells, at midnight. A run sets it;
    without a run it is a fixed day, so that nothing depends on the clock."""
    arguments: str = "{}"
    """Further variables of the template, as a JSON object with sorted keys."""
    system: SystemPolicy = "message"
    """`fold` puts the system text before the first user text, for a template without a system
    role."""

    @property
    def variables(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.arguments)
        return found


PLAIN = Rendering()


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A template's text around the messages of one conversation."""

    texts: tuple[str, ...]
    """One more than there are messages. The last includes the opening of the assistant's turn
    unless the last message is the assistant's."""
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

    def __init__(self, reason: str, remedy: str, *, can_fold: bool = False) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason, self.remedy = reason, remedy
        self.can_fold = can_fold
        """Whether it can if the system text is folded into the user's."""


class _Clock:
    """The `strftime_now` of transformers, stopped at midnight of a day."""

    def __init__(self, date: str, days_later: int = 0) -> None:
        self.was_read = False
        day = datetime.datetime.fromisoformat(date)
        self._midnight = day + datetime.timedelta(days=days_later)

    def __call__(self, format: str) -> str:
        self.was_read = True
        return self._midnight.strftime(format)


def render_shape(tokenizer: Any, rendering: Rendering, roles: tuple[str, ...]) -> Shape:
    """The Shape of a conversation of these roles.

    Args:
        tokenizer: the transformers tokenizer of the template.
        rendering: the run's.
        roles: the messages' roles, system first if it is there.

    Raises:
        TemplateError: the template refuses, drops, reorders or repeats a message; one line.
        ValueError: an argument is none of its own.
    """
    check_arguments(tokenizer, rendering)
    clock = _Clock(rendering.date)
    try:
        texts = _texts(tokenizer, rendering, clock, roles)
    except ValueError as error:
        can_fold = _can_fold(tokenizer, rendering, roles)
        remedy = 'set system = "fold" for this model' if can_fold else "use another template"
        raise TemplateError(str(error), remedy, can_fold=can_fold) from error
    own_system, emptied = _without_own_system(tokenizer, rendering, clock, roles, texts)
    shows_date = False
    if clock.was_read:  # many templates read it for a text that they then leave out
        clock = _Clock(rendering.date, days_later=_OTHER_DAY)
        on_another = _texts(tokenizer, rendering, clock, roles)
        _, on_another = _without_own_system(tokenizer, rendering, clock, roles, on_another)
        shows_date = on_another != emptied
    is_folded = rendering.system == "fold" and roles[0] == "system"
    return Shape(
        texts=tuple(emptied),
        shows_date=shows_date,
        own_system=own_system,
        has_own_system=bool(own_system) and emptied == texts,
        is_plain=not (shows_date or emptied != texts or is_folded or rendering.variables),
    )


def check_arguments(tokenizer: Any, rendering: Rendering) -> None:
    """Checks that the template reads every argument of the rendering.

    Raises:
        ValueError: it does not, or the argument is none that a config may set; one line.
    """
    if not rendering.variables:
        return
    reserved = {*inspect.signature(tokenizer.apply_chat_template).parameters, "messages"}
    reserved |= {*tokenizer.special_tokens_map, "strftime_now"}
    read = template_variables(tokenizer)
    for name in rendering.variables:
        if name in reserved:
            raise ValueError(
                f"template_arguments sets {name}, which the run itself sets; leave it out"
            )
        if name not in read:
            known = ", ".join(sorted(read - reserved - {"raise_exception"})) or "none"
            raise ValueError(
                f"the chat template does not read {name}, which template_arguments sets; it reads "
                f"{known}"
            )


def template_variables(tokenizer: Any) -> set[str]:
    """The names that the template reads and does not set itself."""
    from jinja2 import meta

    # Only the environment that transformers compiles templates in knows their extra tags.
    from transformers.utils.chat_template_utils import _compile_jinja_template

    source = tokenizer.get_chat_template()
    environment = _compile_jinja_template(source).environment
    return set(meta.find_undeclared_variables(environment.parse(source)))


def _texts(tokenizer: Any, rendering: Rendering, clock: _Clock, roles: Sequence[str]) -> list[str]:
    placeholders = _placeholders(roles)
    return _between(_rendered(tokenizer, rendering, clock, roles, placeholders), roles)


def _placeholders(roles: Sequence[str]) -> list[str]:
    return [_PLACEHOLDER.format(index=index) for index in range(len(roles))]


def _between(rest: str, roles: Sequence[str]) -> list[str]:
    """The texts before, between and after the placeholders of these roles."""
    placeholders = _placeholders(roles)
    texts = []
    for role, placeholder in zip(roles, placeholders, strict=True):
        before, found, rest = rest.partition(placeholder)
        if not found:
            raise ValueError(f"the chat template drops or reorders the {role} message")
        texts.append(before)
    texts.append(rest)
    if any(placeholder in text for placeholder in placeholders for text in texts):
        raise ValueError("the chat template repeats a message")
    return texts


def _rendered(
    tokenizer: Any,
    rendering: Rendering,
    clock: _Clock,
    roles: Sequence[str],
    contents: Sequence[str],
) -> str:
    turns = [{"role": r, "content": text} for r, text in zip(roles, contents, strict=True)]
    if rendering.system == "fold" and roles[0] == "system" and contents[0]:
        system, user, *others = turns
        folded = {"role": "user", "content": f"{system['content']}{_FOLD}{user['content']}"}
        turns = [folded, *others]
    try:
        text: str = tokenizer.apply_chat_template(
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
    return text


def _can_fold(tokenizer: Any, rendering: Rendering, roles: tuple[str, ...]) -> bool:
    if roles[0] != "system" or rendering.system == "fold":
        return False
    folded = Rendering(date=rendering.date, arguments=rendering.arguments, system="fold")
    try:
        _texts(tokenizer, folded, _Clock(rendering.date), roles)
    except ValueError:
        return False
    return True


def _without_own_system(
    tokenizer: Any,
    rendering: Rendering,
    clock: _Clock,
    roles: tuple[str, ...],
    texts: list[str],
) -> tuple[str, list[str]]:
    """The template's own system text, and its texts without it if it can be kept out.

    Qwen2.5 writes "You are Qwen ..." where no system message is given, and nothing for an empty
    one.
    """
    if roles[0] == "system":
        return "", texts
    unfolded = Rendering(date=rendering.date, arguments=rendering.arguments)
    try:
        before, after, *_ = _texts(tokenizer, unfolded, clock, ("system", *roles))
        contents = ["", *_placeholders(roles)]
        text = _rendered(tokenizer, unfolded, clock, ("system", *roles), contents)
        emptied = _between(text, roles)
    except ValueError:
        return "", texts
    own = texts[0].removeprefix(before).removesuffix(after)
    if not own or texts[0] != before + own + after:
        return "", texts
    return own, emptied if emptied == [before + after, *texts[1:]] else texts
