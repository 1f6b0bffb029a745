"""What reads like a secret: a config is recorded in config.json, copied to every node and shown.

Names are judged by their words, values by the patterns of detect-secrets, of which nothing that
asks a network is used, and by a few of our own for what those do not know.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

_NAME = re.compile(
    r"""
      secret | pass(word|wd|phrase) | (^|_)(pass|pwd)(_|$) | credential | api_?key | auth_?token
    | (access|private)_?key | authorization | cookie
    | (token|(?<!_p)key|auth|pass|pwd)$  # but neither NCCL_IB_PKEY nor VLLM_..._TOKEN_THRESHOLD
    """,
    re.IGNORECASE | re.VERBOSE,
)
_URL = re.compile(r"[a-z][a-z0-9+.-]*:/+[^\s/@:]*:[^\s@]+@", re.IGNORECASE)
_GIVEN = re.compile(r"(?:([A-Za-z][\w-]*)\s*[=:]|--([\w-]+)\s)\s*[^\s/]")
_BEARER = re.compile(r"\bbearer\s+\S{8}", re.IGNORECASE)
_TOKENS = re.compile(
    r"""
      \bhf_[A-Za-z0-9]{20}              # Hugging Face
    | \bsk-[A-Za-z0-9_-]{24}            # OpenAI, Anthropic and those that do as they do
    | \bAIza[A-Za-z0-9_-]{35}           # Google
    | \bgithub_pat_[A-Za-z0-9_]{22}
    | \bnvapi-[A-Za-z0-9_-]{20}
    """,
    re.VERBOSE,
)
_NOT_USED = ("High Entropy", "Public IP", "Secret Keyword")
"""Detectors that take digests, addresses and ordinary words for secrets."""


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret, by the words in it."""
    return _NAME.search(name.replace("-", "_")) is not None


def secret_in(text: str) -> str:
    """What in the text reads like a secret, with an article; empty if nothing does."""
    if _URL.search(text):
        return "a password in a URL"
    if any(is_secret_name(one or other) for one, other in _GIVEN.findall(text)):
        return "a secret with its name"
    if _BEARER.search(text) or _TOKENS.search(text):
        return "a token"
    return next((f"a secret ({kind})" for kind, finds in _detectors() if any(finds(text))), "")


def check_no_secrets(table: dict[str, Any]) -> None:
    """Checks every string in nested lists and tables, and every name in them.

    Raises:
        ValueError: one reads like a secret; the line names its key and not the value.
    """
    parts: list[tuple[str, Any]] = [("", table)]
    while parts:
        key, value = parts.pop()
        if isinstance(value, str) and (found := secret_in(value)):
            raise ValueError(
                f"{key} holds what reads like {found}, and a config is recorded in config.json "
                "and travels; leave it out and set it in the environment of the nodes"
            )
        inside = value.items() if isinstance(value, dict) else ()
        for name, inner in enumerate(value) if isinstance(value, list) else inside:
            if secret_in(str(name)):
                raise ValueError(f"a name in {key or 'it'} reads like a secret; remove it")
            parts.append((f"{key}.{name}" if key else str(name), inner))


def shown(value: Any) -> str:
    """A value as a message quotes it: a list or a table only by its kind, and no secret."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    if isinstance(value, str) and secret_in(value):
        return "not shown, since it reads like a secret"
    return text if len(text) <= 100 else f"{text[:97]}..."


@functools.cache
def _detectors() -> tuple[tuple[str, Callable[[str], Iterator[str]]], ...]:
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    return tuple(
        (kind, detector().analyze_string)
        for kind, detector in get_mapping_from_secret_type_to_class().items()
        if not any(word in kind for word in _NOT_USED)
    )
