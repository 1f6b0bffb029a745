"""Whether two questions with the same numbers, choices and gold answers are one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from itertools import compress

from orca2_gen.tasks.fingerprints import NAME_BIT, word_hash

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
"""Words of a name that another of fewer or more words may take the place of."""
_PRONOUN = 1
_GENDERED = ("he", "him", "his", "himself", "she", "her", "hers", "herself")
_PRONOUNS = frozenset(map(word_hash, (*_GENDERED, "they", "them", "their")))


def is_renamed(question: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two questions, given by the hashes of their words, differ in names alone.

    A name is a word that one of them writes with a capital; with a name, a pronoun may change.
    Wherever a name stands, the other question has the same word in its place.
    """
    left, right = _without_gender(question), _without_gender(other)
    if not any(word >= NAME_BIT for word in left):
        left, right = right, left
    if len(left) == len(right) and _agree([(left, right)]):
        return True
    matcher = SequenceMatcher(None, _plain(left), _plain(right), autojunk=False)
    return _agree((left[a:b], right[c:d]) for _, a, b, c, d in matcher.get_opcodes())


def _without_gender(words: Sequence[int]) -> list[int]:
    return [_PRONOUN if word & (NAME_BIT - 1) in _PRONOUNS else word for word in words]


def _agree(parts: Iterable[tuple[list[int], list[int]]]) -> bool:
    """Whether the other question has the same words for each word, others only for a name."""
    stands_for: dict[int, list[int]] = {}
    for left, right in parts:
        if len(left) == len(right):
            pairs = [(word, [other]) for word, other in zip(left, right, strict=True)]
        elif left and right and max(len(left), len(right)) <= _LONGEST_NAME:
            if not all(word >= NAME_BIT for word in left):
                return False
            pairs = [(left[0], right), *((word, list[int]()) for word in left[1:])]
        else:
            return False
        for word, others in pairs:
            if len(others) == 1 and not _is_same_or_name(word, others[0]):
                return False
            plain = _plain(others)
            if stands_for.setdefault(word, plain) != plain:
                return False
    return True


def _is_same_or_name(word: int, other: int) -> bool:
    return (word | other) >= NAME_BIT or word == other


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
