"""What leaves a run, after any fault: exports, traces, the card, and no copy of another problem."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from orca2_gen.config.load import read_config
from orca2_gen.dataset.export import export
from orca2_gen.dataset.manifest import checked_manifest, read_examples
from orca2_gen.dataset.shapes import Shape
from orca2_gen.provenance.export_faults import verify_export
from orca2_gen.provenance.trace import trace
from orca2_gen.records import Example, Problem
from orca2_gen.run_directory.arrow_files import read_records, read_table
from orca2_gen.run_directory.ledger import Ledger, read_ledger
from orca2_gen.strategies import load_strategies

_SHAPES: tuple[Shape, ...] = ("messages", "tokens")
_TRACED = 3
"""Problems of each stage that are traced, accepted and rejected each."""


def assert_leaves_whole(run_dir: Path, secret: str) -> None:
    """Asserts that what a finished run gives to others is whole, and says nothing that it must not.

    Args:
        run_dir: directory of the run.
        secret: text that must stand in no file.
    """
    root = run_dir / "dataset"
    examples = list(read_examples(root, checked_manifest(root))) if root.exists() else []
    hidden = [secret, *_instructions(run_dir)]
    for path in root.glob("*"):
        if path.suffix in (".md", ".json"):
            assert_says_none(path, hidden)
    if examples:  # of no rows there is nothing to export
        for shape in _SHAPES:
            assert_is_exported(root, shape, examples, hidden)
        assert_is_paired(root, hidden)
    assert_are_traced(run_dir, {example.problem_id for example in examples})
    assert_no_copy(run_dir)


def assert_is_exported(
    root: Path, shape: Shape, examples: list[Example], hidden: list[str]
) -> None:
    """Asserts that an export holds the dataset's rows in their order, and verifies whole."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out"
        made = export(root, out, shape=shape, format="parquet")
        assert verify_export(out) == []
        rows = [row for entry in made.files for row in pq.read_table(out / entry.path).to_pylist()]
        assert made.rows == len(rows) == len(examples)
        for row, example in zip(rows, examples, strict=True):
            if shape == "tokens":
                assert tuple(row["input_ids"]) == example.input_ids
            else:
                said = [(turn["role"], turn["content"]) for turn in row["messages"]]
                assert said == [(turn.role, turn.content) for turn in example.messages]
            assert not any(text in json.dumps(row) for text in map(_in_json, hidden))
        for path in out.glob("*.md"):
            assert_says_none(path, hidden)


def assert_is_paired(root: Path, hidden: list[str]) -> None:
    """Asserts that pairs with refused answers verify whole, and hold no instruction either."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out"
        try:
            made = export(root, out, shape="preference", format="parquet")
        except ValueError as error:
            assert "no pair to export" in str(error) or "holds no refused answers" in str(error)
            return
        assert verify_export(out) == []
        for entry in made.files:
            for row in pq.read_table(out / entry.path).to_pylist():
                assert not any(text in json.dumps(row) for text in map(_in_json, hidden))
        for path in out.glob("*.md"):
            assert_says_none(path, hidden)


def assert_are_traced(run_dir: Path, in_dataset: set[str]) -> None:
    """Asserts that a trace names each stage in which a problem has rows, and no other."""
    ledger = read_ledger(run_dir)
    stages: dict[str, set[str]] = defaultdict(set)
    for stage, problem_id in _rows(ledger):
        stages[problem_id].add(stage)
    chosen: set[str] = set()
    for stage in {stage for found in stages.values() for stage in found}:
        chosen.update([id_ for id_, found in sorted(stages.items()) if stage in found][:_TRACED])
    for problem_id in chosen:
        steps = trace(run_dir, problem_id)
        found = {step.stage for step in steps} - {"selections"}
        wanted = stages[problem_id] | ({"dataset"} if problem_id in in_dataset else set())
        assert found == wanted, problem_id


def _rows(ledger: Ledger) -> Iterator[tuple[str, str]]:
    """(stage, problem_id) of each committed row of a problem."""
    for receipt in ledger.units.values():
        if receipt.stage == "selections":
            continue
        for entry in receipt.files:
            for problem_id in read_table(ledger.run_dir, entry)["problem_id"].to_pylist():
                yield receipt.stage, problem_id


def assert_no_copy(run_dir: Path) -> None:
    """Asserts that no two accepted problems, taught or held out, are one in all but their ids."""
    config = read_config(run_dir / "config.json")
    asked = config.decontaminate
    if asked is None or not (asked.duplicates and asked.contamination):
        return
    ledger = read_ledger(run_dir)
    seen: dict[tuple[Any, ...], str] = {}
    for stage in ("evaluation_problems", "problems"):
        for receipt in ledger.committed(stage):
            for problem in read_records(run_dir, receipt.accepted, Problem):
                words = problem.question, *problem.choices, problem.target
                key = tuple(" ".join(text.casefold().split()) for text in words)
                other = seen.get(key)
                if stage == "problems":
                    assert other is None, (problem.problem_id, other)
                seen[key] = problem.problem_id


def assert_says_none(path: Path, hidden: list[str]) -> None:
    """Asserts that none of these texts stands in a file."""
    said = path.read_text()
    for text in hidden:
        assert text not in said and _in_json(text) not in said, (path, text)


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _instructions(run_dir: Path) -> list[str]:
    config = read_config(run_dir / "config.json")
    if config.erasure.prompts != "erased":
        return []
    return list(load_strategies(config.strategies).instructions.values())
