from __future__ import annotations

import dataclasses
import re

import pytest
import yaml
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st

from orca2_gen.dataset.card import card_of, front_matter, size_of
from orca2_gen.dataset.facts import ModelFacts, RunFacts, SourceFacts
from orca2_gen.dataset.manifest import Manifest
from orca2_gen.dataset.markdown import cell, one_line, table
from tests.dataset.told_facts import HOSTILE, manifest_with, manifests, run_facts, texts


def tables_in(text: str) -> list[list[str]]:
    """The lines of each table of a card."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("| "):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [lines for lines in found if lines]


def cells_of(line: str) -> list[str]:
    return [each.strip() for each in line.strip("| ").split(" | ")]


@settings(max_examples=60, deadline=None)
@given(manifest=manifests)
def test_any_facts_make_a_card_that_is_read_back_as_it_was_meant(manifest: Manifest) -> None:
    text = card_of(manifest).decode()
    card = DatasetCard(text)
    assert manifest.summary is not None
    expected = front_matter(manifest, one_line(manifest.name), manifest.summary.rows)
    assert card.data.to_dict() == yaml.safe_load(expected.to_yaml())
    assert "\nMade by orca2-gen. " in text  # by which an older manifest's card is known as ours
    assert text.isprintable() or all(c.isprintable() or c == "\n" for c in text)
    assert "<script" not in card.text and "-->" not in card.text
    for lines in tables_in(card.text):
        assert len({line.count("|") for line in lines}) == 1, lines
    # Nothing but our own headings and fences begins a block.
    assert card.text.count("```") == (2 if manifest.facts else 0)
    headings = [line for line in card.text.splitlines() if line.startswith("#")]
    assert len(headings) == (11 if manifest.facts else 3)


@given(text=texts)
def test_a_cell_is_one_line_of_one_cell(text: str) -> None:
    made = table(("a", "b #"), [(text, 1_000)], 9, "rows")
    assert [line.count("|") for line in made.splitlines()] == [3, 3, 3]
    assert made.splitlines()[2].endswith("| 1,000 |")


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_plain_words_stand_in_a_cell_as_they_are(text: str) -> None:
    plain = "".join(char for char in text if char.isalnum())[:100]
    assert cell(plain) == (plain or "-")
    assert cell(f"a_{plain}_b") == f"a_{plain}_b" or not plain


def test_values_of_a_cell_read_as_a_person_writes_them() -> None:
    values = [1_234_567, 0.25, None, "", True, False, "a|b", "x_y", "_x_"]
    shown = ["1,234,567", "0.250", "-", "-", "yes", "no", "a&#124;b", "x_y", r"\_x\_"]
    assert [cell(value) for value in values] == shown


def test_a_long_table_says_how_many_rows_it_leaves_out() -> None:
    made = table(("task",), [(f"t{n}",) for n in range(1_005)], 5, "tasks")
    assert made.count("\n|") == 6
    assert made.endswith("and 1,000 more tasks, which manifest.json lists.\n")


@pytest.mark.parametrize(
    ("num_rows", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (10**6, "1M<n<10M"), (10**13, "n>1T")],
)
def test_the_size_is_one_of_the_hubs_categories(num_rows: int, category: str) -> None:
    assert size_of(num_rows) == category


def model(role: str, license: str, engine: str = "vllm") -> ModelFacts:
    return ModelFacts(
        role=role,
        name=f"{role}-1b",
        engine=engine,
        digest="d",
        tokenizer="t",
        license=license,
        license_from="config",
        arguments={},
    )


def source(task: str, license: str, language: str = "") -> SourceFacts:
    return SourceFacts(
        task=task,
        file=f"{task}.jsonl",
        format="jsonl",
        split="train",
        sha256="s",
        license=license,
        language=language,
        read=9,
        accepted=7,
        rejected=2,
        passed_over=0,
        near_duplicates=0,
        reasons={},
        taught=6,
        rows=5,
    )


def front_of(*parts: ModelFacts | SourceFacts) -> dict[str, object]:
    facts = RunFacts(
        date="2026-03-01",
        models=tuple(each for each in parts if isinstance(each, ModelFacts)),
        sources=tuple(each for each in parts if isinstance(each, SourceFacts)),
        held_out=(),
        copies=None,
        sampling={},
        stages=(),
        choices=(),
        settings={},
    )
    card = DatasetCard(card_of(manifest_with(facts)).decode())
    found: dict[str, object] = card.data.to_dict()
    return found


def test_one_license_of_all_is_the_rows_and_else_it_is_other_with_the_list() -> None:
    teacher = model("teacher", "Apache-2.0")
    assert front_of(teacher, source("a", "apache-2.0"))["license"] == "apache-2.0"
    mixed = front_of(teacher, source("a", "mit"), source("b", "apache-2.0"))
    assert mixed["license"] == "other"
    assert mixed["license_details"] == ("apache-2.0: teacher teacher-1b, task b; mit: task a")
    assert front_of(teacher, source("a", ""))["license"] == "other"
    assert front_of(model("teacher", ""), source("a", ""))["license"] == "other"
    free = front_of(source("a", "See our terms"), model("teacher", "See our terms"))
    assert free["license"] == "other"
    assert free["license_details"] == "See our terms: teacher teacher-1b, task a"


def test_a_script_has_no_license_that_would_have_to_be_stated() -> None:
    found = front_of(model("teacher", "", "scripted"), source("a", "mit"))
    assert found["license"] == "mit"


def test_a_language_is_named_only_if_every_task_states_its_own() -> None:
    assert front_of(source("a", "mit", "de"), source("b", "mit", "en"))["language"] == ["de", "en"]
    assert "language" not in front_of(source("a", "mit", "en"), source("b", "mit"))
    assert "language" not in DatasetCard(card_of(manifest_with(None)).decode()).data.to_dict()


@settings(max_examples=30, deadline=None)
@given(facts=run_facts)
def test_every_count_of_a_source_stands_in_the_card_with_separators(facts: RunFacts) -> None:
    facts = dataclasses.replace(facts, sources=facts.sources[:50])
    text = card_of(manifest_with(facts)).decode()
    part = text[text.index("## Sources") : text.index("## The teacher's sampling")]
    [lines] = tables_in(part)
    assert len(lines) == 2 + len(facts.sources)
    for line, each in zip(lines[2:], facts.sources, strict=True):
        counts = (each.read, each.rejected, each.accepted, each.taught, each.rows)
        assert cells_of(line)[3:8] == [f"{count:,}" for count in counts]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_stranger_named_a_file_is_shown_and_does_nothing(text: str) -> None:
    facts = RunFacts(
        date="2026-03-01",
        models=(dataclasses.replace(model("teacher", text), name=text),),
        sources=(dataclasses.replace(source(text, text), file=text),),
        held_out=(),
        copies=None,
        sampling={text: text},
        stages=(),
        choices=(),
        settings={text: [text, {text: text}]},
        versions=(((text, text),),),
    )
    card = DatasetCard(card_of(manifest_with(facts, name=text)).decode())
    assert not re.search(r"<(?!/?$)[a-z]", card.text)
    prose, _, code = card.text.partition("```")
    assert "](" not in prose.replace(r"\](", "")
    assert code.count("```") == 1 and code.rstrip().endswith("\n```")
    assert card.data.license == "other"
