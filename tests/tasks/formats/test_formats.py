"""Every published format: which part of a row becomes which field of a Problem."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from orca2_gen.tasks.formats import format_digest
from orca2_gen.tasks.formats.bbh import read_bbh_row
from orca2_gen.tasks.formats.hendrycks_math import boxed
from tests.tasks.reading import (
    CRASS_HEADER,
    DROP_ROW,
    SAMPLES,
    only,
    parquet_bytes,
    problems,
    published,
    read,
    read_lines,
    read_rows,
    reasons,
    sample_file,
)

AGIEVAL = {"question": "Which?", "options": ["(A)red", "(B)blue"], "label": "A", "answer": None}
REJECTED_OF_PUBLISHED = {
    "aqua_dev": 0,
    "agieval_aqua-rat": 4,
    "agieval_logiqa-en": 0,
    "agieval_lsat-ar": 0,
    "agieval_lsat-lr": 0,
    "agieval_lsat-rc": 0,
    "agieval_sat-en": 0,
    "agieval_sat-math": 0,
}
"""Of agieval_aqua-rat, the lines 118, 125, 127 and 194 print the right option's text twice."""


@pytest.mark.parametrize(("name", "num_rejected"), REJECTED_OF_PUBLISHED.items())
def test_the_published_option_sets_are_read_but_for_rows_with_two_right_letters(
    name: str, num_rejected: int
) -> None:
    path = published(f"{name}.jsonl")
    found = read(path, format=name.partition("_")[0])
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(found) == len(rows)
    assert Counter(reasons(found)) - Counter(problem=len(rows) - num_rejected) == (
        Counter(duplicate_gold=num_rejected)
    )
    row_of = {f"t/test/{index}": row for index, row in enumerate(rows)}
    for problem in problems(found):
        row = row_of[problem.problem_id]
        assert problem.target == row.get("label", row.get("correct"))
        assert len(problem.choices) == len(row["options"])


def test_flan_options_at_the_end_become_choices_and_the_tasks_name_is_kept(tmp_path: Path) -> None:
    lifted, kept = problems(read(sample_file(tmp_path, "flan"), format="flan"))
    assert (lifted.question, lifted.choices, lifted.target) == ("Is snow warm?", ("yes", "no"), "B")
    assert (kept.answer_type, kept.target, kept.sub_category) == ("exact", "hat", "rhymes:1.0")


def test_letters_before_the_options_of_flan_and_race_are_not_shown_twice(tmp_path: Path) -> None:
    asked = "Which?\nOPTIONS:\n- (B) red\n- (A) blue"
    problem = only(read_rows(tmp_path, {"inputs": asked, "targets": "(B) red"}, format="flan"))
    assert (problem.choices, problem.target) == (("blue", "red"), "B")
    row = {"article": "Ann.", "question": "Who?", "options": ["A. Ann", "B. Bo"], "answer": "B"}
    assert only(read_rows(tmp_path, row, format="race")).choices == ("Ann", "Bo")
    names = row | {"options": ["B. Obama", "J. Smith"]}
    assert only(read_rows(tmp_path, names, format="race")).choices == ("B. Obama", "J. Smith")


FLAN_KEPT = [
    {"inputs": "Warm?\nOPTIONS:\n- yes\n- no\nAnswer:", "targets": "no"},
    {"inputs": "Warm?\nOPTIONS:\n- yes\n- no", "targets": "maybe"},
    {"inputs": "Warm?\nOPTIONS:\n- yes\n- no", "targets": "no", "_template_type": "fs_opt"},
    {"inputs": "Q\nOPTIONS:\n- a\n- b\nb\n\nWarm?\nOPTIONS:\n- yes\n- no", "targets": "no"},
    {"inputs": "OPTIONS:\n- yes\n- no", "targets": "no"},
    {"inputs": "Warm?\nOPTIONS:\n- yes\n- no\n- No.", "targets": "no"},
]


@pytest.mark.parametrize("row", FLAN_KEPT)
def test_flan_inputs_whose_options_are_not_certain_stay_whole(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    problem = only(read_rows(tmp_path, row, format="flan"))
    assert (problem.question, problem.target) == (row["inputs"], row["targets"])
    assert (problem.answer_type, problem.choices) == ("exact", ())


def test_flan_names_are_known_with_and_without_underscore(tmp_path: Path) -> None:
    row = {"inputs": "x?", "targets": "y"}
    found = read_rows(
        tmp_path,
        row | {"_task_name": "a", "_task_source": "CoT"},
        row | {"task_name": "a", "task_source": "CoT"},
        format="flan",
    )
    assert {(x.category, x.sub_category) for x in problems(found)} == {("CoT", "a")}


def test_natural_instructions_ask_definition_and_input_and_take_every_output(
    tmp_path: Path,
) -> None:
    path = sample_file(tmp_path, "natural_instructions")
    first, second = problems(read(path, format="natural_instructions"))
    assert (first.question, first.target) == ("Say what rhymes.\n\ncat", "hat")
    assert (first.other_targets, first.category) == (("bat",), "Rhymes")
    assert first.problem_id == "t/test/task001-a"
    assert second.question == "Say what rhymes." and second.sub_category == "task001_rhymes"


def test_agieval_passages_go_before_questions_and_labels_may_be_lists_of_one(
    tmp_path: Path,
) -> None:
    rows = [
        AGIEVAL | {"passage": "Two sheds."},
        AGIEVAL | {"passage": None, "label": ["A"]},
        AGIEVAL | {"passage": " ", "label": ["A", "B"]},
        AGIEVAL | {"label": []},
        AGIEVAL | {"label": None},
        AGIEVAL | {"label": "C"},
        AGIEVAL | {"options": None, "label": None, "answer": "\\frac{1}{2}"},
        AGIEVAL | {"options": [], "label": None, "answer": 7},
    ]
    found = read_rows(tmp_path, *rows, format="agieval")
    assert reasons(found) == [
        *("problem", "problem", "several_answers", "no_answer", "no_answer", "bad_answer"),
        *("problem", "problem"),
    ]
    kept = problems(found)
    assert [x.question for x in kept[:2]] == ["Two sheds.\n\nWhich?", "Which?"]
    assert [(x.answer_type, x.target) for x in kept[2:]] == [
        ("mathematics", "\\frac{1}{2}"),
        ("mathematics", "7"),
    ]


BOXED = [
    ("so \\boxed{3}.", "3"),
    ("\\boxed{1} then \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
    ("\\fbox{7}", "7"),
    ("\\boxed{1} and \\fbox{2}", "2"),
    ("$\\boxed 12$ it is", "12"),
    ("\\boxed {x}", "x"),
    ("\\boxed{\\left\\{ 1, 2 \\right.}", "\\left\\{ 1, 2 \\right."),
    ("\\boxed{\\text{a {b} c}}", "\\text{a {b} c}"),
    ("\\boxed{", None),
    ("\\boxed{}", None),
    ("\\boxed{3", None),
    ("\\boxed{3\\", None),
    ("no box", None),
]


@pytest.mark.parametrize(("solution", "gold"), BOXED)
def test_the_gold_of_math_is_what_the_last_box_holds(solution: str, gold: str | None) -> None:
    assert boxed(solution) == gold


def test_math_keeps_type_and_level_and_knows_its_exports(tmp_path: Path) -> None:
    problem = only(read(sample_file(tmp_path, "math"), format="math"))
    assert (problem.category, problem.sub_category) == ("Algebra", "Level 1")
    assert (problem.target, problem.answer_type, problem.problem_id) == (
        "3",
        "mathematics",
        "t/test/0",
    )
    row = {"problem": "x?", "solution": "$\\boxed{4}$", "answer": "4", "subject": "Algebra"}
    other = only(read_rows(tmp_path, row | {"level": 5, "unique_id": "test/7.json"}, format="math"))
    assert (other.category, other.sub_category) == ("Algebra", "Level 5")
    assert other.problem_id == "t/test/test%2F7.json"
    assert reasons(read_rows(tmp_path, row | {"solution": "\\boxed{4"}, format="math")) == [
        "bad_answer"
    ]


def test_bbh_lifts_lettered_options_and_tells_yes_no_from_exact(tmp_path: Path) -> None:
    choice, closed, free = problems(read(sample_file(tmp_path, "bbh"), format="bbh"))
    assert (choice.question, choice.choices) == ("Which is a fruit?", ("fig", "fog"))
    assert [(x.answer_type, x.target) for x in (choice, closed, free)] == [
        ("multiple_choice", "A"),
        ("yes_no", "Yes"),
        ("exact", "a b"),
    ]


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        *((number, "numeric") for number in ("8", "-5", "1,000", "0.5")),
        *((text, "exact") for text in ("8 apples", "] ) }", "a b", "1 2", "1,2")),
    ],
)
def test_bbh_targets_that_are_plain_numbers_are_numeric(target: str, kind: str) -> None:
    assert read_bbh_row({"input": "x?", "target": target}, None).answer_type == kind
    assert read_bbh_row({"input": "x?", "target": target}, "exact").answer_type == "exact"


def test_agieval_options_in_another_order_keep_their_letters(tmp_path: Path) -> None:
    options = ["A\uff0eF", "C\uff0eL", "(B) G", "(D) M"]
    row = AGIEVAL | {"options": options, "label": "B"}
    problem = only(read_rows(tmp_path, row, format="agieval"))
    assert problem.choices == ("F", "G", "L", "M")
    assert problem.choices["ABCD".index(problem.target)] == "G"


@pytest.mark.parametrize("name", REJECTED_OF_PUBLISHED)
def test_no_published_option_shows_a_second_letter(name: str) -> None:
    path = published(f"{name}.jsonl")
    for problem in problems(read(path, format=name.partition("_")[0])):
        second = [
            text.lstrip("(")[:2] in (f"{x})", f"{x}.")
            for x, text in zip("ABCDE", problem.choices, strict=False)
        ]
        assert not all(second), problem.problem_id


def test_bbh_questions_with_other_lists_stay_whole() -> None:
    asked = "Is it valid?\nOptions:\n- valid \n- invalid"
    statement = read_bbh_row({"input": asked, "target": "valid"}, None)
    assert (statement.question, statement.answer_type) == (asked, "exact")
    words = read_bbh_row({"input": "Sort: b a", "target": "a b"}, "list")
    assert words.target == "a, b"


def test_deepmind_mathematics_pairs_lines_and_names_the_module(tmp_path: Path) -> None:
    path = sample_file(tmp_path, "deepmind_mathematics")
    first, second = problems(read(path, format="deepmind_mathematics"))
    assert (first.question, first.target) == ("Solve 4*b + 5 = 1 for b.", "-1")
    assert (first.category, first.sub_category) == ("algebra", "linear_1d")
    assert second.target == "3*x" and second.answer_type == "mathematics"


def test_a_blank_line_never_sets_later_pairs_off(tmp_path: Path) -> None:
    path = tmp_path / "a__b.txt"
    path.write_bytes(b"1+1?\n2\n\n7\n2+2?\n4\r\n3+3?\n\n5+5?\n")
    found = read(path, format="deepmind_mathematics")
    assert reasons(found) == ["problem", "no_question", "problem", "no_answer", "no_answer"]
    assert [x.problem_id for x in found][1:] == [
        *("a__b.txt:3", "t/test/4", "a__b.txt:7", "a__b.txt:9")
    ]


def test_drop_reads_numbers_spans_and_dates(tmp_path: Path) -> None:
    def answered(**answer: Any) -> Any:
        row = DROP_ROW | {"passage": "P.", "answer": answer, "validated_answers": []}
        (found,) = read_rows(tmp_path, row, format="drop")
        return getattr(found, "reason", None) or (found.answer_type, found.target)  # type: ignore[union-attr]

    assert answered(number="2", spans=["x"]) == ("numeric", "2")
    assert answered(number="", spans=["Bears"]) == ("span", "Bears")
    assert answered(number="", spans=["Bears", "Jets", "Bears"]) == ("span", "Bears\nJets")
    date = {"day": "3", "month": "May", "year": ""}
    assert answered(number="", spans=[], date=date) == ("span", "3 May")
    assert answered(number="two") == ("span", "two")
    assert answered(number="", spans=[], date={"day": ""}) == "no_answer"


def test_drop_takes_validated_answers_of_the_same_kind_only(tmp_path: Path) -> None:
    problem = only(read(sample_file(tmp_path, "drop"), format="drop"))
    assert (problem.target, problem.other_targets) == ("2", ("2.0",))
    assert problem.question == "Two goals.\n\nHow many goals?"
    assert (problem.category, problem.problem_id) == ("nfl", "t/test/q-1")
    listed = {"number": ["2", "3"], "spans": [[], []]}
    row = DROP_ROW | {"passage": "P.", "validated_answers": listed}
    assert only(read_rows(tmp_path, row, format="drop")).other_targets == ("3",)


def test_places_of_documents_lead_to_the_row(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    pairs = [DROP_ROW | {"answer": None}, 7]
    path.write_text(json.dumps({"nfl_7": {"passage": "P.", "qa_pairs": pairs}, "a b": []}))
    assert [x.problem_id for x in read(path, format="drop")] == [
        *("x.json:nfl_7.qa_pairs[0]", "x.json:nfl_7.qa_pairs[1]", "x.json:[1]")
    ]
    path.write_text(json.dumps({"examples": [{"input": "x?"}, None]}))
    found = read(path, format="bbh")
    assert [x.problem_id for x in found] == ["x.json:examples[0]", "x.json:examples[1]"]
    assert reasons(found) == ["no_answer", "not_an_object"]


@pytest.mark.parametrize("format", ["natural_instructions", "bbh", "race", "drop", "crass"])
def test_a_file_of_another_format_is_one_rejection(tmp_path: Path, format: str) -> None:
    path = tmp_path / "x"
    path.write_text('{"rows": [1]}')
    assert reasons(read(path, format=format)) == ["wrong_format"]


def test_race_asks_every_question_with_its_passage(tmp_path: Path) -> None:
    first, second = problems(read(sample_file(tmp_path, "race"), format="race"))
    assert first.question == "Ann has a hen.\n\nWhat has Ann?"
    assert (first.target, first.category) == ("B", "high")
    assert [x.problem_id for x in (first, second)] == [
        "t/test/high12.txt-0",
        "t/test/high12.txt-1",
    ]


def test_crass_puts_the_right_answer_under_balanced_letters(tmp_path: Path) -> None:
    rows = "".join(f"1;{i};Cup {i} falls.;Why?;Yes {i}.;No.;Maybe.;\n" for i in range(300))
    path = tmp_path / "crass.csv"
    path.write_text("\ufeff" + CRASS_HEADER + rows, encoding="utf-8")
    found = problems(read(path, format="crass"))
    letters = Counter(x.target for x in found)
    assert set(letters) == set("ABC") and min(letters.values()) > 70
    assert all(x.choices["ABC".index(x.target)].startswith("Yes") for x in found)
    assert found[4].problem_id == "t/test/1-4" and found[4].question == "Cup 4 falls. Why?"
    assert read(path, format="crass") == found


def test_a_crass_record_of_another_width_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "crass.csv"
    path.write_text(CRASS_HEADER + "1;1;P.;Q?;Yes.;No.\n1;2;P.;Q?;Yes.;No.;;;more\n\n")
    assert reasons(read(path, format="crass")) == ["bad_columns", "bad_columns"]


def test_a_digest_knows_bytes_names_and_nothing_of_where_they_lie(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        (folder / "algebra").mkdir(parents=True)
        (folder / "algebra" / "7.json").write_bytes(SAMPLES["math"][1])
        (folder / "README.md").write_text(folder.name)
    assert format_digest("math", one) == format_digest("math", other)
    (other / "algebra" / "7.json").rename(other / "algebra" / "8.json")
    assert format_digest("math", one) != format_digest("math", other)
    (other / "algebra" / "8.json").rename(other / "algebra" / "7.json")
    (other / "algebra" / "7.json").write_bytes(SAMPLES["math"][1] + b" ")
    assert format_digest("math", one) != format_digest("math", other)


def test_a_lone_files_name_is_in_the_digest_only_where_rows_depend_on_it(tmp_path: Path) -> None:
    for format, matters in (("gsm8k", False), ("deepmind_mathematics", True)):
        path = sample_file(tmp_path, format)
        before = format_digest(format, path)
        assert (format_digest(format, path.rename(tmp_path / "x__y.txt")) != before) == matters


def test_lines_of_every_json_format_may_stand_in_parquet(tmp_path: Path) -> None:
    row = {"inputs": ["x?"], "targets": ["y"], "task_name": ["a"]}
    (tmp_path / "train.parquet").write_bytes(parquet_bytes(pa.table(row)))
    assert only(read(tmp_path, format="flan")).sub_category == "a"
    assert only(read(tmp_path / "train.parquet", format="flan")).target == "y"
    with pytest.raises(ValueError, match="set format to 'parquet'"):
        read(tmp_path / "train.parquet")


def test_jsonl_reads_files_of_any_name(tmp_path: Path) -> None:
    assert reasons(read_lines(tmp_path, SAMPLES["jsonl"][1])) == ["problem", "problem"]
    path = tmp_path / "rows.txt"
    path.write_bytes(SAMPLES["jsonl"][1])
    assert reasons(read(path)) == ["problem", "problem"]
