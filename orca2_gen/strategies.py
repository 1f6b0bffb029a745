"""The strategies file, loaded and checked: every text that this project puts into a prompt."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca2_gen.mistakes.spelling import hint
from orca2_gen.mistakes.toml_faults import toml_fault
from orca2_gen.records import Problem
from orca2_gen.run_directory.regular_files import UnusableFile, read_regular

OWN_FILE = Path(__file__).with_name("strategies.toml")
"""The package's own strategies file."""
MOST_STRATEGIES_BYTES = 10_000_000
"""Bytes of a strategies file: 1,000 instructions of 2,000 words."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")

CAUTIOUS, EMPTY = "cautious", "empty"
"""Names of the two system messages that are not strategies; evaluation scores under them."""


Place = tuple[str, str, str]
"""Strategy, category and sub-category; an empty sub-category means the whole category."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Strategies:
    """Every text that this project puts into a prompt."""

    instructions: dict[str, str]
    """Strategy name -> system instruction, in the file's order."""
    cautious_message: str
    answer_sentence: bool
    """Whether user messages end with grading's answer sentence."""
    further_calls: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Strategy name -> the user's text in each call after the first; absent: one call."""
    special_instructions: Mapping[Place, str] = field(default_factory=dict)
    """Place -> the text that replaces the strategy's instruction there."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.instructions)

    @property
    def every_instruction(self) -> dict[str, str]:
        """Every text that may be a strategy's system message, by a unique name."""
        special = {" @ ".join(filter(None, at)): s for at, s in self.special_instructions.items()}
        return self.instructions | special

    def system_message(self, name: str, problem: Problem | None = None) -> str:
        """The system message of a strategy, or of `cautious` or `empty`.

        A strategy's text is the one for the problem's sub-category, else its category, else all.
        """
        if name == CAUTIOUS:
            return self.cautious_message
        if name == EMPTY:
            return ""
        if problem is not None and self.special_instructions:
            for sub_category in (problem.sub_category, ""):
                text = self.special_instructions.get((name, problem.category, sub_category))
                if text is not None:
                    return text
        return self.instructions[name]


def load_strategies(path: str | None) -> Strategies:
    """The Strategies of a TOML file, or of the package's own if path is None.

    Raises:
        ValueError: one line that says which key is absent, empty, unknown or given twice.
    """
    file = Path(path) if path is not None else OWN_FILE
    try:
        body = read_regular(file, MOST_STRATEGIES_BYTES)
        raw = tomllib.loads(body.decode("utf-8-sig"))
    except FileNotFoundError:
        raise ValueError(f"strategies {file}: nothing is there; correct the path") from None
    except UnusableFile as error:
        raise ValueError(f"strategies {error}; correct the path") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"strategies {file} is not TOML: {toml_fault(error, body)}") from error
    _expect_keys(f"strategies {file}", raw, _FILE_KEYS, optional="instruction")
    instructions: dict[str, str] = {}
    further_calls: dict[str, tuple[str, ...]] = {}
    for index, table in enumerate(raw["strategy"]):
        where = f"strategies {file}: {_numbered('strategy', index, table)}"
        _expect_keys(where, table, _STRATEGY_KEYS, optional="further_calls")
        name = table["name"]
        if not _NAME.fullmatch(name) or name in (CAUTIOUS, EMPTY):
            raise ValueError(
                f"{where} is called {name[:100]!r}; expected at most 64 lower-case letters, digits "
                f"and underscores, a letter first, and neither {CAUTIOUS} nor {EMPTY}, e.g. "
                "step_by_step"
            )
        if name in instructions:
            raise ValueError(f"strategies {file}: {name!r} is given twice; keep one")
        instructions[name] = table["instruction"].strip()
        if "further_calls" in table:
            further_calls[name] = _further_calls(where, table["further_calls"])
    _expect_own_texts(file, raw["cautious_message"], instructions)
    return Strategies(
        instructions=instructions,
        cautious_message=raw["cautious_message"].strip(),
        answer_sentence=raw["answer_sentence"],
        further_calls=further_calls,
        special_instructions=_special_instructions(file, raw.get("instruction", []), instructions),
    )


def _expect_own_texts(file: Path, cautious: str, instructions: Mapping[str, str]) -> None:
    """Checks that no two strategies ask the same, and that none asks what erasure leaves."""
    owners = {" ".join(cautious.split()): CAUTIOUS}
    for name, text in instructions.items():
        owner = owners.setdefault(" ".join(text.split()), name)
        if owner == CAUTIOUS:
            raise ValueError(
                f"strategies {file}: the instruction of {name!r} is the cautious message, so there "
                "would be nothing to erase; write another"
            )
        if owner != name:
            raise ValueError(
                f"strategies {file}: {owner!r} and {name!r} have the same instruction; write "
                "another, or take one out"
            )


def strategies_json(strategies: Strategies) -> dict[str, Any]:
    """The Strategies as plain JSON values, in lists where the order counts."""
    return {
        "instructions": [list(pair) for pair in strategies.instructions.items()],
        "cautious_message": strategies.cautious_message,
        "answer_sentence": strategies.answer_sentence,
        "further_calls": {name: list(said) for name, said in strategies.further_calls.items()},
        "special_instructions": [
            [*place, text] for place, text in strategies.special_instructions.items()
        ],
    }


def strategies_from_json(body: Mapping[str, Any]) -> Strategies:
    """The Strategies that `strategies_json` wrote."""
    special = {(name, of, part): text for name, of, part, text in body["special_instructions"]}
    return Strategies(
        instructions=dict(body["instructions"]),
        cautious_message=body["cautious_message"],
        answer_sentence=body["answer_sentence"],
        further_calls={name: tuple(said) for name, said in body["further_calls"].items()},
        special_instructions=special,
    )


def _further_calls(where: str, texts: list[Any]) -> tuple[str, ...]:
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(
                f"{where}: further_calls holds {_kind(text)}; expected texts in quotes, the user's "
                "in each call after the first"
            )
    return tuple(text.strip() for text in texts)


def _special_instructions(
    file: Path, tables: list[Any], instructions: Mapping[str, str]
) -> dict[Place, str]:
    found: dict[Place, str] = {}
    for index, table in enumerate(tables):
        where = f"strategies {file}: {_numbered('instruction', index, table)}"
        _expect_keys(where, table, _SPECIAL_KEYS, optional="sub_category")
        name = table["strategy"]
        if name not in instructions:
            raise ValueError(
                f"{where} is for {name!r}, not a strategy of this file; {hint(name, instructions)}"
            )
        place = (name, table["category"], table.get("sub_category", ""))
        if place in found:
            raise ValueError(
                f"{where}: {' @ '.join(filter(None, place))!r} is given twice; keep one"
            )
        found[place] = table["instruction"].strip()
    return found


_TEXT = (str, "text in quotes")
_FILE_KEYS: dict[str, tuple[type, str]] = {
    "cautious_message": _TEXT,
    "answer_sentence": (bool, "true or false"),
    "strategy": (list, "a list of sections [[strategy]]"),
    "instruction": (list, "a list of sections [[instruction]]"),
}
"""Key -> its type, and what a message calls that."""
_STRATEGY_KEYS: dict[str, tuple[type, str]] = {
    "name": _TEXT,
    "instruction": _TEXT,
    "further_calls": (list, "a list of texts in quotes"),
}
_SPECIAL_KEYS: dict[str, tuple[type, str]] = {
    "strategy": _TEXT,
    "category": _TEXT,
    "instruction": _TEXT,
    "sub_category": _TEXT,
}
_KINDS = {bool: "true or false", str: "text", dict: "a section", list: "a list"}


def _numbered(heading: str, index: int, table: Any) -> str:
    """A section of a list as its author finds it: by number, and by name if it has one."""
    name = table.get("name", table.get("strategy")) if isinstance(table, dict) else None
    return f"[[{heading}]] number {index + 1}" + (
        f" ({name[:64]!r})" if isinstance(name, str) else ""
    )


def _expect_keys(
    where: str, table: Any, kinds: Mapping[str, tuple[type, str]], *, optional: str
) -> None:
    if not isinstance(table, dict):
        raise ValueError(f"{where} is {_kind(table)}; expected a section with keys of its own")
    if unknown := sorted(set(table) - set(kinds)):
        raise ValueError(f"{where} has an unknown key {unknown[0]!r}; {hint(unknown[0], kinds)}")
    for key, (kind, words) in kinds.items():
        if key not in table:
            if key == optional:
                continue
            raise ValueError(f"{where} has no {key}; add it: {words}")
        value = table[key]
        if not isinstance(value, kind):
            raise ValueError(f"{where}: {key} is {_kind(value)}; expected {words}")
        if value == [] or (isinstance(value, str) and not value.strip()):
            raise ValueError(f"{where}: {key} is empty; expected {words}")


def _kind(value: Any) -> str:
    """A value of a TOML file as a message calls it."""
    if isinstance(value, str) and not value.strip():
        return "an empty text"
    if type(value) in (int, float):
        return "a number"
    return _KINDS.get(type(value), "a date or time")
