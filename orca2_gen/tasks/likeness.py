"""Whether two questions with the same numbers, choices and gold answers are one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import compress

from orca2_gen.tasks.fingerprints import NAME_BIT

LEAST_ALIKE = 0.5
"""Share of common words from which two questions are alike."""
_WINDOW = 10
_LEAST_BESIDE_PASSAGE = 0.75
"""The same where most of a question is a passage or a template."""
_LEAST_WORDS = 3
_LEAST_IN_WINDOW = 0.5
"""Share of any ten words in a row that the other question has at the same place: questions about
one passage are alike in the passage only."""
Told = tuple[Sequence[bool], Sequence[bool]]
_LONGEST_NAME = 3
"""Words of a name that may stand in the place of another's."""
_MOST_NAMES = 10
"""Names that are looked for where a name has more words than the one in its place."""
_FIRST_SYMBOL = 0xF0000  # private to whoever uses it: no text is compared, only hashes


def is_renamed(question: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two questions, given by the hashes of their words, differ in names alone.

    A name is a word that one of them writes with a capital. Wherever it stands, the other question
    has the same in its place.
    """
    if not any(word >= NAME_BIT for word in question):
        question, other = other, question
    if len(question) == len(other):
        return _is_word_for_word(question, other)
    return _has_longer_names(question, _plain(other))


def _is_word_for_word(question: Sequence[int], other: Sequence[int]) -> bool:
    stands_for: dict[int, int] = {}
    for word, written in zip(question, other, strict=True):
        plain = written & (NAME_BIT - 1)
        if (word | written) < NAME_BIT and word != plain:
            return False
        if stands_for.setdefault(word, plain) != plain:
            return False
    return True


def _has_longer_names(question: Sequence[int], other: list[int]) -> bool:
    """Whether the other question has some words, the same everywhere, for each name it has not as
    often.
    """
    symbols: dict[int, str] = {}
    names: dict[int, str] = {}
    in_question, in_other = Counter(_plain(question)), Counter(other)
    pattern = ""
    for word in question:
        plain = word & (NAME_BIT - 1)
        if word < NAME_BIT or in_question[plain] == in_other[plain]:
            pattern += _symbol(symbols, plain)
        elif word in names:
            pattern += f"(?P={names[word]})"
        else:
            names[word] = f"name{len(names)}"
            pattern += f"(?P<{names[word]}>.{{0,{_LONGEST_NAME}}})"
    text = "".join(_symbol(symbols, word) for word in other)
    return len(names) <= _MOST_NAMES and re.fullmatch(pattern, text) is not None


def _symbol(symbols: dict[int, str], word: int) -> str:
    return symbols.setdefault(word, chr(_FIRST_SYMBOL + len(symbols)))


def likeness(question: Sequence[int], other: Sequence[int], told: Told) -> float:
    """The share of both questions' words that both have; 0.0 if a part of one is not alike.

    Args:
        question: hashes of its words.
        other: the same of another question.
        told: which words of the one and of the other tell it from other rows.
    """
    left, right = _plain(question), _plain(other)
    words, others = set(compress(left, told[0])), set(compress(right, told[1]))
    alike = len(words & others) / max(1, len(words | others))
    is_own = all(2 * sum(told_of) >= len(told_of) for told_of in told)
    least = LEAST_ALIKE if is_own else _LEAST_BESIDE_PASSAGE
    if alike < least or min(len(words), len(others)) < _LEAST_WORDS:
        return 0.0
    in_left, in_right = bytearray(len(left)), bytearray(len(right))
    for block in SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks():
        in_left[block.a : block.a + block.size] = b"\1" * block.size
        in_right[block.b : block.b + block.size] = b"\1" * block.size
    return alike if min(_worst(in_left), _worst(in_right)) >= _LEAST_IN_WINDOW else 0.0


def _worst(matched: bytearray) -> float:
    """The least share of matched words in any window."""
    size = min(_WINDOW, len(matched))
    if not size:
        return 0.0
    return min(sum(matched[i : i + size]) for i in range(len(matched) - size + 1)) / size


def _plain(words: Sequence[int]) -> list[int]:
    return [word & (NAME_BIT - 1) for word in words]
