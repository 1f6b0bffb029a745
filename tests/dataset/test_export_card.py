from __future__ import annotations

import dataclasses
from pathlib import Path

import datasets
import pytest

from orca2_gen.chat import Chat
from orca2_gen.dataset.export import export
from orca2_gen.dataset.export_files import FORMATS, Format
from orca2_gen.dataset.shapes import SHAPES
from orca2_gen.records import Example
from orca2_gen.run_directory.arrow_files import write_records
from orca2_gen.strategies import Strategies
from tests.conftest import dataset_of
from tests.dataset.test_write import examples_of, plan_of


def dataset(root: Path, chat: Chat, strategies: Strategies, rows: list[Example]) -> Path:
    root.mkdir()
    entry = write_records(root, "examples/0.arrow", rows, Example)
    return Path(dataset_of(root, plan_of(chat, [entry]), strategies).directory)


def test_the_card_states_the_verdict_and_what_trainers_train_besides(
    tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    source = dataset(tmp_path / "run", chatml, strategies, examples_of(chatml, strategies, 3))
    for shape in SHAPES:
        made = export(source, tmp_path / shape, shape=shape, format="jsonl")
        card = " ".join((tmp_path / shape / "README.md").read_text().split())
        assert made.verdict.startswith("All 3 prompts are") and made.verdict in card
        adds = shape in ("prompt_completion", "sharegpt", "alpaca")
        assert ("line break behind the end of the turn" in card) == adds


@pytest.mark.parametrize("format", FORMATS)
def test_load_dataset_reads_an_export_that_replaced_another_and_not_its_cache(
    format: Format, tmp_path: Path, chatml: Chat, strategies: Strategies
) -> None:
    rows = examples_of(chatml, strategies, 3)
    renamed = [dataclasses.replace(row, problem_id=f"u/{n}") for n, row in enumerate(rows)]
    out = tmp_path / "out"
    for number, made in enumerate((rows, rows[:2], renamed)):
        source = dataset(tmp_path / str(number), chatml, strategies, made)
        export(source, out, shape="messages", format=format)
        loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
        assert loaded["problem_id"][:] == [row.problem_id for row in made]
