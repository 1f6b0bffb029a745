"""Which tokens of a model are markers, and what a template's text has of them."""

from __future__ import annotations

import itertools
import re
from typing import Any

from orca2_gen.chat.chat import Chat

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_ELEMENT = re.compile(
    "</?(a|b|blockquote|br|caption|code|div|em|h[1-6]|hr|i|img|li|ol|p|pre|s|span|strong|sub|sup|"
    "table|tbody|td|tfoot|th|thead|tr|u|ul)>"
)
"""Elements of HTML, which Gemma has as tokens and writes in its answers."""


def is_marker(token: Any) -> bool:
    """Whether a control token, None if it is not an added one, is special or a name in brackets.

    Words, numbers, signs, bytes and elements of HTML, which some tokenizers add too, are none.
    """
    text = "" if token is None else token.content.strip()
    if _BYTE.fullmatch(text):
        return False
    if token is None or token.special:
        return True
    is_named = any(letter.isalnum() for letter in text)
    is_bracketed = not (text[:1].isalnum() or text[-1:].isalnum())
    return is_named and is_bracketed and not _ELEMENT.fullmatch(text)


def added_tokens(chat: Chat) -> list[str]:
    """The tokenizer's added tokens, in the order of their ids."""
    tokens = chat.tokenizer.added_tokens_decoder
    return [str(token.content) for _, token in sorted(tokens.items())]


def remainder(chat: Chat, prompt: str, whole: str) -> str:
    """What a template's text has behind its common beginning with the text of a prompt.

    No added token is cut in two.
    """
    if whole.startswith(prompt):
        return whole.removeprefix(prompt)
    tokens = sorted(added_tokens(chat), key=len, reverse=True)
    between = re.compile(f"({'|'.join(map(re.escape, tokens))})" if tokens else "(?!)")
    pieces = between.split(prompt), between.split(whole)
    num_same = _num_same(*pieces)
    ours, theirs = (piece[num_same] if num_same < len(piece) else "" for piece in pieces)
    is_text = not any(text in tokens for text in (ours, theirs))
    return "".join(pieces[1][num_same:])[_num_same(ours, theirs) if is_text else 0 :]


def _num_same(left: Any, right: Any) -> int:
    """The length of the common beginning of two texts or lists."""
    pairs = zip(left, right, strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
