"""The taxonomy: a row's own task first, then the config's, else the row keeps its own category."""

from __future__ import annotations

from pathlib import Path

import pytest

from orca2_gen.tasks.taxonomy import Branch, load_taxonomy
from tests.tasks.reading import line, problems, read, read_rows

TEXT = """
[t]
category = "mixed"

["glue/mnli:2.0"]
category = "inference"
sub_category = "entailment"
"""


def write(folder: Path, text: str) -> str:
    path = folder / "taxonomy.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_innermost_name_that_is_known_decides(tmp_path: Path) -> None:
    taxonomy = load_taxonomy(write(tmp_path, TEXT))
    row = {"inputs": "x?", "targets": "y", "_task_source": "Flan2021"}
    rows = (row | {"_task_name": name} for name in ("glue/mnli:2.0", "unknown"))
    found = problems(read_rows(tmp_path, *rows, format="flan", taxonomy=taxonomy))
    assert [(x.category, x.sub_category) for x in found] == [
        ("inference", "entailment"),
        ("mixed", "unknown"),
    ]


def test_a_rows_own_category_stays_where_the_taxonomy_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line(category="own", sub_category="deep"))
    taxonomy = load_taxonomy(write(tmp_path, '[other]\ncategory = "x"'))
    (problem,) = problems(read(path, taxonomy=taxonomy))
    assert (problem.category, problem.sub_category) == ("own", "deep")
    taxonomy = load_taxonomy(write(tmp_path, '[t]\ncategory = "x"'))
    (problem,) = problems(read(path, taxonomy=taxonomy))
    assert (problem.category, problem.sub_category) == ("x", "deep")


def test_categories_are_sampled_by_the_taxonomy(tmp_path: Path) -> None:
    taxonomy = {"a": Branch(category="x"), "b": Branch(category="x")}
    rows = ({"inputs": f"{i}?", "targets": "y", "task_name": "abc"[i % 3]} for i in range(60))
    found = problems(
        read_rows(tmp_path, *rows, format="flan", taxonomy=taxonomy, rows_per_category=7)
    )
    assert sorted(x.category for x in found) == [""] * 7 + ["x"] * 7


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[t", "is not TOML"),
        ("t = 7", "expected category"),
        ("[t]\nsub_category = 'x'", "expected category"),
        ("[t]\ncategory = 'x'\nkind = 'y'", "nothing else"),
        ("[glue.mnli]\ncategory = 'x'", "in quotes"),
        ("[t]\ncategory = ''", "expected a name"),
        ("[t]\ncategory = 7", "expected a name"),
        ("[t]\ncategory = 'x'\nsub_category = 'a\\nb'", None),
        ('[t]\ncategory = "a\\nb"', "expected a name"),
        (f"[t]\ncategory = '{'x' * 101}'", "101 characters"),
    ],
)
def test_a_bad_taxonomy_is_one_clear_line(tmp_path: Path, text: str, match: str | None) -> None:
    path = write(tmp_path, text)
    if match is None:
        assert load_taxonomy(path)["t"].sub_category == "a\\nb"
        return
    with pytest.raises(ValueError, match=match) as caught:
        load_taxonomy(path)
    assert "\n" not in str(caught.value) and "taxonomy.toml" in str(caught.value)


def test_no_file_is_no_taxonomy_and_an_absent_one_an_error(tmp_path: Path) -> None:
    assert load_taxonomy(None) == {}
    with pytest.raises(ValueError, match="cannot be read"):
        load_taxonomy(str(tmp_path / "absent.toml"))
