"""Which variables a chat template reads, and so which of them a config may set."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any

_SPECIAL_TOKENS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def check_arguments(tokenizer: Any, names: Collection[str]) -> None:
    """Checks that the template reads every one of these variables.

    Raises:
        ValueError: it does not, or the run sets the variable itself; one line.
    """
    if not names:
        return
    reserved = {*inspect.signature(tokenizer.apply_chat_template).parameters, "messages"}
    reserved |= {*tokenizer.special_tokens_map, *(f"{kind}_token" for kind in _SPECIAL_TOKENS)}
    reserved |= {"strftime_now", "raise_exception"}
    read = template_variables(tokenizer)
    for name in names:
        if name in reserved:
            raise ValueError(
                f"template_arguments sets {name}, which the run itself sets; leave it out"
            )
        if name not in read:
            known = ", ".join(sorted(read - reserved)) or "none"
            raise ValueError(
                f"the chat template does not read {_shown(name)}, which template_arguments sets; "
                f"it reads {known}"
            )


def template_variables(tokenizer: Any) -> set[str]:
    """The names that the template reads and does not set itself."""
    from jinja2 import meta

    # Only the environment that transformers compiles templates in knows their extra tags.
    from transformers.utils.chat_template_utils import _compile_jinja_template

    source = tokenizer.get_chat_template()
    environment = _compile_jinja_template(source).environment
    return set(meta.find_undeclared_variables(environment.parse(source)))


def _shown(name: str) -> str:
    return name if name.isidentifier() else ascii(name[:100])
