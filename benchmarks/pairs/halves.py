"""An AGIEval file in two halves, one to train on and one held out, with no passage in both."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from orca2_gen.run_directory.arrow_files import write_bytes
from orca2_gen.run_directory.regular_files import read_regular

MOST_BYTES = 64 << 20
"""Bytes of a task file; AGIEval's largest has 2 MB."""


def halves(lines: Sequence[str], seed: int = 0) -> tuple[list[str], list[str]]:
    """The lines to train on and those held out, each in their order.

    Questions about one passage stay together, so the halves differ in size by at most one passage's
    questions.

    Raises:
        ValueError: a line is no JSON object, or there are fewer than two passages.
    """
    by_passage: dict[str, list[int]] = defaultdict(list)
    for number, line in enumerate(lines):
        by_passage[_passage(line, number)].append(number)
    if len(by_passage) < 2:
        raise ValueError("fewer than two passages, which make no two halves")
    drawn = list(by_passage.values())
    random.Random(seed).shuffle(drawn)
    parts: tuple[list[int], list[int]] = ([], [])
    for numbers in drawn:
        min(parts, key=len).extend(numbers)
    trained, held_out = ([lines[number] for number in sorted(part)] for part in parts)
    return trained, held_out


def write_halves(source: Path, folder: Path) -> tuple[Path, Path]:
    """The files of the two halves of a task file, written to a folder.

    Raises:
        ValueError: the file cannot be read or halved; one line names it.
    """
    try:
        text = read_regular(source, MOST_BYTES).decode("utf-8")
        found = halves([line for line in text.split("\n") if line.strip()])
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{source}: {error}; expected AGIEval's rows, one a line") from None
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"{source.stem}.{split}.jsonl" for split in ("train", "test"))
    for path, lines in zip(paths, found, strict=True):
        write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
    return paths[0], paths[1]


def _passage(line: str, number: int) -> str:
    """The passage of a row; a name of its own for a row without one."""
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"line {number + 1} is no JSON object")
    passage = row.get("passage")
    return passage if isinstance(passage, str) and passage.strip() else f"line {number}"
