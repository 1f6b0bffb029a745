"""Questions without a template, and their copies: in another form, under other names, changed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

NAMES = (
    *("Zora", "Quill", "Xanthe", "Bodhi", "Ravi", "Mei", "Olu", "Priya", "Sven", "Ines", "Kofi"),
    *("Aiko", "Dara", "Emil", "Farah", "Goran", "Hana", "Iker", "Jomo", "Kaya", "Lars", "Nadia"),
)
_SYLLABLES = ("ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "wu", "pra", "sti", "gre")
_NUM_WORDS = 20_000
_ROWS_AT_ONCE = 10_000
_WHOLE = re.compile(r"(?<![\w,.])\d+(?!\w|[.,]\d)")


def vocabulary() -> list[str]:
    """Made-up words, the most frequent ones first."""
    words = []
    for number in range(_NUM_WORDS):
        word, left = "", number + len(_SYLLABLES)
        while left:
            left, syllable = divmod(left, len(_SYLLABLES))
            word += _SYLLABLES[syllable]
        words.append(word)
    return words


def generated_questions(num_questions: int, seed: int) -> Iterator[dict[str, Any]]:
    """Questions of 20 to 60 words with numbers and names, words as frequent as in a language."""
    rng = np.random.default_rng(seed)
    words = np.array(vocabulary(), dtype=object)
    chances = 1 / (np.arange(len(words)) + 10)
    chances /= chances.sum()
    for first in range(0, num_questions, _ROWS_AT_ONCE):
        num_rows = min(_ROWS_AT_ONCE, num_questions - first)
        drawn = words[rng.choice(len(words), (num_rows, 60), p=chances)]
        lengths, numbers = rng.integers(20, 61, num_rows), rng.integers(2, 5000, (num_rows, 4))
        names = rng.integers(0, len(NAMES), (num_rows, 2))
        for row in range(num_rows):
            text = drawn[row, : lengths[row]].tolist()
            text[2], text[-3] = NAMES[names[row, 0]], NAMES[names[row, 1]]
            text[5], text[9], text[14] = map(str, numbers[row, :3].tolist())
            question = " ".join(text) + "?"
            yield {
                "id": str(first + row),
                "question": question[0].upper() + question[1:],
                "answer": str(numbers[row, 3]),
            }


def disguised(text: str, rng: random.Random) -> str:
    """The text in another case, with other spaces and other number formats."""
    forms = ("{:,}", "{}.0", "{:,}.00")
    text = _WHOLE.sub(lambda found: rng.choice(forms).format(int(found[0])), text)
    text = text.replace(" ", rng.choice(["  ", "\n"]))
    return _cased(text, rng.choice(["upper", "lower", "title"]))


def _cased(text: str, case: str) -> str:
    cased: str = getattr(text, case)() if case else text
    return cased


def renamed(text: str, rng: random.Random) -> str:
    """The text with another name for each word with a capital that begins no sentence."""
    inside = set(re.findall(r"(?<=[a-z0-9,] )[A-Z][a-z]+", text)) - {"I"}
    new = {name: rng.choice(NAMES) for name in sorted(inside)}
    text = re.sub(r"\b[A-Z][a-z]+\b", lambda found: new.get(found[0], found[0]), text)
    return _cased(text, rng.choice(["upper", "lower", ""]))


def one_in_ten_changed(text: str, words: list[str], rng: random.Random) -> str:
    """The text with every tenth word, numbers apart, replaced by another."""
    found = text.split(" ")
    plain = [place for place, word in enumerate(found) if word.isalpha()]
    for place in rng.sample(plain, min(len(plain), max(1, len(found) // 10))):
        found[place] = rng.choice(words)
    return " ".join(found)
