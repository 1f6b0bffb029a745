"""Whether a text repeats an instruction: words in a row, whatever their case and punctuation."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

QUOTED_WORDS = 8
"""Words in a row; a rationale that repeats as many of its instruction would teach it after all."""
FEWEST_WORDS = 5
"""An instruction of fewer words is everybody's ("Explain.")."""

Run = tuple[str, ...]
"""Words in a row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructionRuns:
    """The runs of words by which a text is known to repeat an instruction, by their length."""

    runs: Mapping[int, frozenset[Run]]
    pieces: Mapping[int, frozenset[Run]]
    """Length of a run -> pieces of half its length. Whatever the place of a run in a text, one
    piece of it starts at a multiple of that half."""


def instruction_runs(instructions: Iterable[str]) -> InstructionRuns:
    """The runs of QUOTED_WORDS words of the instructions; shorter instructions are one run."""
    runs: dict[int, set[Run]] = {}
    for instruction in instructions:
        for run in runs_of(words_of(instruction)):
            runs.setdefault(len(run), set()).add(run)
    return in_pieces(runs)


def runs_of(told: Sequence[str]) -> Iterator[Run]:
    """The runs of an instruction of these words; none if it has fewer than FEWEST_WORDS."""
    if len(told) >= FEWEST_WORDS:
        yield from runs_within(told, min(QUOTED_WORDS, len(told)))


def in_pieces(runs: Mapping[int, Collection[Run]]) -> InstructionRuns:
    """These runs, by their length, with the pieces by which they are found."""
    pieces = {
        length: frozenset(piece for run in found for piece in runs_within(run, _half(length)))
        for length, found in runs.items()
    }
    return InstructionRuns(
        runs={length: frozenset(found) for length, found in runs.items()}, pieces=pieces
    )


def repeated_runs(words: Sequence[str], instructions: InstructionRuns) -> set[Run]:
    """The runs of the instructions that stand in these words."""
    found: set[Run] = set()
    for length, runs in instructions.runs.items():
        half, pieces = _half(length), instructions.pieces[length]
        for start in range(0, len(words) - half + 1, half):
            if tuple(words[start : start + half]) in pieces:
                first, last = max(0, start + half - length), min(start, len(words) - length)
                around = words[first : last + length]
                found.update(runs.intersection(runs_within(around, length)))
    return found


def unheard(runs: Collection[Run], user: Sequence[str]) -> set[Run]:
    """The runs that do not stand in the user's own words."""
    return {run for run in runs if run not in set(runs_within(user, len(run)))}


def quotes_instruction(text: str, instruction: str, user: str) -> bool:
    """Whether the text repeats QUOTED_WORDS words in a row of the instruction, or a shorter one
    whole.

    Words that the user said do not count.
    """
    found = repeated_runs(words_of(text), instruction_runs([instruction]))
    return bool(unheard(found, words_of(user)))


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return re.findall(r"\w+", text.casefold())


def runs_within(words: Sequence[str], length: int) -> Iterator[Run]:
    """Every run of so many of these words."""
    for start in range(len(words) - length + 1):
        yield tuple(words[start : start + length])


def _half(length: int) -> int:
    return (length + 1) // 2
