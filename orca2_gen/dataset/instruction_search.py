"""The words of the instructions that a student must not be shown, and where a text repeats them.

QUOTED_WORDS words in a row count, or a shorter instruction whole, unless the cautious message says
them too. Case, punctuation, Unicode form and characters that nobody sees hide none of them. What is
accepted of a teacher rests on quoting.py's own words, which stay as they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orca2_gen.quoting import InstructionRuns, Run, in_pieces, repeated_runs, runs_of, runs_within
from orca2_gen.strategies import Strategies

FEWEST_LETTERS = 12
"""A text of fewer than FEWEST_WORDS words and of fewer letters is everybody's ("Verify.")."""
_WORD = re.compile(r"[^\W_]+")
_FILLERS = "\u115f\u1160\u3164\uffa0"
"""Letters by their category that nobody sees."""
_UNSEEN = ("Cf", "Cc", "Co", "Cn", "Mn", "Me")
"""Categories of characters that nobody sees, or that stand on or around a letter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructionSearch:
    """What texts are searched for."""

    told: Mapping[str, tuple[Run, ...]]
    """Name of an instruction or of a further call -> its runs, in order."""
    whole: Mapping[str, Run]
    """The same for those of fewer than FEWEST_WORDS words, which count in a template alone."""
    num_unsought: int
    """Texts that are too short to be looked for."""
    runs: InstructionRuns
    """All runs of `told`."""
    words: frozenset[str]
    """All words of `told`."""
    least: bytes
    """A one for each word of the shortest run."""

    def runs_in(self, words: Sequence[str]) -> set[Run]:
        """The runs that stand in these words."""
        # Few texts have as many words of instructions in a row, which is quickly seen.
        if self.least not in bytes(map(self.words.__contains__, words)):
            return set()
        return repeated_runs(words, self.runs)

    def runs_hidden_in(self, text: str) -> dict[Run, str]:
        """The runs that stand in a template's text, however it parts its words, and the names of
        their instructions.
        """
        words = seen_words(text)
        letters = "".join(words)
        near = {word for word in self.words if word in letters}
        found: dict[Run, str] = {}
        for name, runs in self.told.items():
            for run in runs:
                if near.issuperset(run) and _stands_in(run, words, letters):
                    found.setdefault(run, name)
        for name, run in self.whole.items():
            if _stands_in(run, words, letters):
                found.setdefault(run, name)
        return found

    def name_of(self, run: Run) -> str:
        """The name of the first instruction that holds a run."""
        return next(name for name, runs in self.told.items() if run in runs)


def told_texts(strategies: Strategies) -> dict[str, str]:
    """Every text that a teacher is told and the student is not, by a unique name."""
    further = {
        f"{name}, call {place}": text
        for name, texts in strategies.further_calls.items()
        for place, text in enumerate(texts, start=2)
    }
    return strategies.every_instruction | further


def instruction_search(strategies: Strategies) -> InstructionSearch:
    """The search for what a teacher is told and the student is not."""
    cautious = seen_words(strategies.cautious_message)
    told: dict[str, tuple[Run, ...]] = {}
    whole: dict[str, Run] = {}
    num_unsought = 0
    for name, text in told_texts(strategies).items():
        words = seen_words(text)
        runs = tuple(runs_of(words))
        if runs:
            own = set(runs_within(cautious, len(runs[0])))
            told[name] = tuple(run for run in runs if run not in own)
        elif sum(map(len, words)) >= FEWEST_LETTERS:
            if tuple(words) not in runs_within(cautious, len(words)):
                whole[name] = tuple(words)
        else:
            num_unsought += 1
    by_length: dict[int, set[Run]] = {}
    for run in {run for runs in told.values() for run in runs}:
        by_length.setdefault(len(run), set()).add(run)
    return InstructionSearch(
        told=told,
        whole=whole,
        num_unsought=num_unsought,
        runs=in_pieces(by_length),
        words=frozenset(word for runs in told.values() for run in runs for word in run),
        least=b"\1" * min(by_length, default=0),
    )


def seen_words(text: str) -> list[str]:
    """The words of a text as a reader sees them, in lower case."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
        for character in set(text).difference(_ASCII):
            if _is_unseen(character):
                text = text.replace(character, "")
            elif not character.isalnum():
                text = text.replace(character, " ")
    if text.isascii():  # a table is ten times as fast as an expression
        return text.encode().translate(_LETTERS, _CONTROLS).decode().split()
    return _WORD.findall(text.translate(dict.fromkeys(_CONTROLS)))


def _is_unseen(character: str) -> bool:
    if character in _FILLERS:
        return True
    return unicodedata.category(character) in _UNSEEN and not character.isspace()


_ASCII = frozenset(map(chr, range(128)))
_CONTROLS = bytes(place for place in range(128) if _is_unseen(chr(place)))
"""The characters of ASCII that nobody sees."""
_LETTERS = bytes(ord(chr(n).lower()) if chr(n).isalnum() else 32 for n in range(128)).ljust(256)
"""A byte of ASCII -> itself in lower case, or a space."""


def _stands_in(run: Run, words: Sequence[str], letters: str) -> bool:
    """Whether a run stands in these words; of many letters, also where words are parted
    otherwise.
    """
    joined = "".join(run)
    if joined not in letters:
        return False
    return len(joined) >= FEWEST_LETTERS or run in runs_within(words, len(run))
