"""The strategies file, loaded and checked: every text that this project puts into a prompt."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
        raw = tomllib.loads(read_regular(file, MOST_STRATEGIES_BYTES).decode("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"strategies {file} cannot be read: nothing is there") from None
    except UnusableFile as error:
        raise ValueError(f"strategies file: {error}; correct the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"strategies {file} is not TOML: {error}") from error
    _expect_keys(file, "the file", raw, _FILE_KEYS, {"instruction": list})
    instructions: dict[str, str] = {}
    further_calls: dict[str, tuple[str, ...]] = {}
    for index, table in enumerate(raw["strategy"]):
        where = f"strategy {index}"
        _expect_keys(file, where, table, _STRATEGY_KEYS, {"further_calls": list})
        name = table["name"]
        if not _NAME.fullmatch(name) or name in (CAUTIOUS, EMPTY):
            raise ValueError(
                f"strategies {file}: {where} is called {name!r}; expected lower-case letters, "
                f"digits and underscores, and neither {CAUTIOUS} nor {EMPTY}, e.g. step_by_step"
            )
        if name in instructions:
            raise ValueError(f"strategies {file}: {name!r} is given twice; keep one")
        instructions[name] = table["instruction"].strip()
        if "further_calls" in table:
            further_calls[name] = _further_calls(file, where, table["further_calls"])
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


def _further_calls(file: Path, where: str, texts: list[Any]) -> tuple[str, ...]:
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(
            f"strategies {file}: {where}: further_calls holds the user's text in each call after "
            "the first; give texts that are not empty"
        )
    return tuple(text.strip() for text in texts)


def _special_instructions(
    file: Path, tables: list[Any], instructions: Mapping[str, str]
) -> dict[Place, str]:
    found: dict[Place, str] = {}
    for index, table in enumerate(tables):
        where = f"instruction {index}"
        _expect_keys(file, where, table, _SPECIAL_KEYS, {"sub_category": str})
        name = table["strategy"]
        if name not in instructions:
            raise ValueError(
                f"strategies {file}: {where} is for {name!r}, not a strategy of this file; "
                f"expected {', '.join(instructions)}"
            )
        place = (name, table["category"], table.get("sub_category", ""))
        if place in found:
            raise ValueError(
                f"strategies {file}: {where}: {' @ '.join(filter(None, place))!r} is given twice; "
                "keep one"
            )
        found[place] = table["instruction"].strip()
    return found


_FILE_KEYS: dict[str, type] = {"cautious_message": str, "answer_sentence": bool, "strategy": list}
_STRATEGY_KEYS: dict[str, type] = {"name": str, "instruction": str}
_SPECIAL_KEYS: dict[str, type] = {"strategy": str, "category": str, "instruction": str}


def _expect_keys(
    file: Path,
    where: str,
    table: Any,
    kinds: dict[str, type],
    optional: dict[str, type],
) -> None:
    known = kinds | optional
    if not isinstance(table, dict) or not set(table) <= set(known):
        raise ValueError(f"strategies {file}: {where} may hold only {', '.join(known)}")
    for key, kind in known.items():
        if key in optional and key not in table:
            continue
        if not isinstance(table.get(key), kind) or not _is_filled(table[key]):
            raise ValueError(
                f"strategies {file}: {where} needs {key!r}, a {kind.__name__} that is not empty"
            )


def _is_filled(value: Any) -> bool:
    return isinstance(value, bool) or bool(value.strip() if isinstance(value, str) else value)
