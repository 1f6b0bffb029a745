"""The law of every reader: a gold answered in its own words, and in its answer sentence, is right.

So is a gold in another notation, and a neighbour of it is wrong. The golds are generated in the
shapes of DeepMind's generator and of MATH; they are read from files like any other.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orca2_gen.grading import formula_equality
from orca2_gen.grading.grade import grade
from orca2_gen.grading.own_words import is_gradable, is_plain
from orca2_gen.records import Problem
from tests.grading.rates import ANSWER_TYPES
from tests.grading.test_grade import make_problem
from tests.tasks.reading import SAMPLES, problems, published, read, read_rows, sample_file

VARIABLES = string.ascii_lowercase
WORDS = ("Tuesday", "ellipse", "Evelyn", "even", "parallelogram", "June 20", "blue and red", "ACF")
UNITS = ("miles per hour", "dollars", "cm", "cm^2", "square feet", "pages", "minutes", "m/s", "kg")
PUBLISHED = ("gsm8k_test", "aqua_dev", "agieval_sat-math", "agieval_lsat-lr", "agieval_logiqa-en")


@pytest.fixture(autouse=True, scope="module")
def no_child_is_left() -> Iterator[None]:
    yield
    formula_equality.close()


def assert_right_in_its_own_words(problem: Problem) -> None:
    for text in (problem.target, f"Answer: {problem.target}", f"So.\n**Answer:** {problem.target}"):
        assert grade(problem, text, "stop").outcome == "correct", (problem.target, text)


@pytest.mark.parametrize("format", SAMPLES)
def test_every_gold_that_a_reader_accepts_is_right_in_its_own_words(
    tmp_path: Path, format: str
) -> None:
    accepted = problems(read(sample_file(tmp_path, format), format=format))
    assert accepted
    for problem in accepted:
        assert_right_in_its_own_words(problem)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_gold_is_right_in_its_own_words(name: str) -> None:
    found = read(published(f"{name}.jsonl"), format=name.partition("_")[0])
    assert not [row for row in found if getattr(row, "reason", "") == "gold_not_gradable"]
    for problem in problems(found):
        assert_right_in_its_own_words(problem)


def fractions() -> st.SearchStrategy[Fraction]:
    return st.fractions(-40, 40, max_denominator=60).filter(lambda value: value.denominator > 1)


@st.composite
def quotients(draw: st.DrawFn) -> tuple[str, list[str], str]:
    value = draw(fractions())
    sign, top = "-" * (value < 0), abs(value.numerator)
    forms = [f"{sign}\\frac{{{top}}}{{{value.denominator}}}", f"{sign}{top}/{value.denominator}"]
    if 10**6 % value.denominator == 0:
        forms.append(str(float(value)))
    return forms[1], forms, str(value + 1)


@st.composite
def polynomials(draw: st.DrawFn) -> tuple[str, list[str], str]:
    x, a, b = draw(st.sampled_from(VARIABLES)), *draw(st.tuples(*[st.integers(2, 30)] * 2))
    gold = f"{a}*{x}**2 - {b}*{x}"
    forms = [
        f"{a}{x}^2 - {b}{x}",
        f"{x}({a}{x} - {b})",
        f"{x}*({a}*{x} - {b})",
        f"-{b}{x} + {a}{x}^{{2}}",
        f"${a} {x}^2 - {b} {x}$",
    ]
    return gold, forms, f"{a}{x}^2 + {b}{x}"


@st.composite
def powers(draw: st.DrawFn) -> tuple[str, list[str], str]:
    x, exponent = draw(st.sampled_from(VARIABLES)), draw(fractions())
    written = f"{exponent.numerator}/{exponent.denominator}"
    gold = f"{x}**({written})"
    forms = [f"{x}^({written})", f"{x}^{{{written}}}"]
    sign = "-" * (exponent < 0)
    forms.append(f"{x}^{{{sign}\\frac{{{abs(exponent.numerator)}}}{{{exponent.denominator}}}}}")
    return gold, forms, f"{x}^{exponent.numerator}/{exponent.denominator}"


@st.composite
def surds(draw: st.DrawFn) -> tuple[str, list[str], str]:
    a, b = draw(st.integers(2, 40)), draw(st.integers(2, 40))
    root = draw(st.sampled_from([2, 3, 7]))
    gold = f"{a} - {b}*sqrt({root})"
    forms = [f"{a}-{b}\\sqrt{{{root}}}", f"{a} - {b}\u221a{root}", f"-{b}\\sqrt{root} + {a}"]
    return gold, forms, f"{a} + {b}\\sqrt{{{root}}}"


@st.composite
def circles(draw: st.DrawFn) -> tuple[str, list[str], str]:
    top, bottom = draw(st.sampled_from([(4, 3), (1, 6), (2, 9), (5, 12)]))
    gold = f"\\frac{{{top}}}{{{bottom}}}\\pi"
    forms = [f"{top}/{bottom} pi", f"{top}/{bottom}\u03c0", f"{top}pi/{bottom}"]
    return gold, forms, f"{top}/({bottom}\\pi)"


@st.composite
def roots(draw: st.DrawFn) -> tuple[str, list[str], str]:
    found = draw(st.lists(st.integers(-99, 99), min_size=2, max_size=4, unique=True))
    texts = list(map(str, found))
    forms = [", ".join(reversed(texts)), "\\{" + ", ".join(texts) + "\\}", " and ".join(texts)]
    return ", ".join(texts), forms, ", ".join([*texts[1:], "100"])


@st.composite
def intervals(draw: st.DrawFn) -> tuple[str, list[str], str]:
    start, length = draw(st.integers(-20, 20)), draw(st.integers(1, 20))
    end = start + length
    forms = [f"{start} < x <= {end}", f"x > {start} and x \u2264 {end}", f"x \\in ({start}, {end}]"]
    return f"({start},{end}]", forms, f"[{start},{end}]"


@st.composite
def quantities(draw: st.DrawFn) -> tuple[str, list[str], str]:
    number, unit = draw(st.integers(2, 9999)), draw(st.sampled_from(UNITS))
    forms = [str(number), f"{number:,}", f"{number} {unit}", f"{number} \\text{{ {unit}}}"]
    return f"{number} {unit}", forms, f"{number + 1} {unit}"


@st.composite
def words(draw: st.DrawFn) -> tuple[str, list[str], str]:
    word = draw(st.sampled_from(WORDS))
    forms = [word.upper(), f"\\text{{{word}}}", f"{word.lower()}."]
    return f"\\text{{{word}}}", forms, "Wednesday"


@st.composite
def verdicts(draw: st.DrawFn) -> tuple[str, list[str], str]:
    gold = draw(st.booleans())
    yes, no = ["yes", "Yes.", "true", "\\text{True}"], ["no", "No.", "false", "\\text{False}"]
    return str(gold), yes if gold else no, (no if gold else yes)[0]


@st.composite
def times(draw: st.DrawFn) -> tuple[str, list[str], str]:
    hour, minute = draw(st.integers(1, 12)), draw(st.integers(0, 59))
    half, other = draw(st.permutations(["AM", "PM"]))
    clock = f"{hour}:{minute:02}"
    dotted = f"{half[0].lower()}.m."
    forms = [f"{clock} {half.lower()}", f"{clock}{half}", f"{clock} {dotted}"]
    return f"{clock} {half}", forms, f"{clock} {other}"


SHAPES = {
    "quotients": quotients(),
    "polynomials": polynomials(),
    "powers": powers(),
    "surds": surds(),
    "circles": circles(),
    "roots": roots(),
    "intervals": intervals(),
    "quantities": quantities(),
    "words": words(),
    "verdicts": verdicts(),
    "times": times(),
}


@pytest.mark.parametrize("shape", SHAPES)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_mathematical_gold_is_right_in_every_notation_and_its_neighbour_is_wrong(
    tmp_path: Path, shape: str, data: st.DataObject
) -> None:
    gold, forms, neighbour = data.draw(SHAPES[shape])
    row = {"question": "Find it.", "options": None, "label": None, "answer": gold}
    [problem] = problems(read_rows(tmp_path, row, format="agieval"))
    assert_right_in_its_own_words(problem)
    for form in forms:
        assert grade(problem, f"Answer: {form}", "stop").outcome == "correct", (gold, form)
        assert grade(problem, f"So \\boxed{{{form}}}", "stop").outcome == "correct", (gold, form)
    assert grade(problem, f"Answer: {neighbour}", "stop").outcome != "correct", (gold, neighbour)


def test_a_gold_that_no_grader_recognises_is_a_rejection_that_says_so(tmp_path: Path) -> None:
    row = {"question": "Which?", "answer": "Answer: Answer: \\boxed{7} or \\boxed{8}"}
    [found] = read_rows(tmp_path, row, format="jsonl")
    assert getattr(found, "reason", "") == "gold_not_gradable"
    assert "in its own words" in getattr(found, "detail", "")


@given(text=st.from_regex(r"[A-Za-z0-9 ,'-]{1,40}", fullmatch=True))
@example(text="a 'b' c")
@example(text="1, 2")
@example(text="x-")
def test_plain_words_are_right_in_their_own_words_without_a_trial(text: str) -> None:
    if is_plain(text):
        assert_right_in_its_own_words(make_problem("exact", text))


@pytest.mark.parametrize("answer_type", ANSWER_TYPES)
def test_the_hand_made_golds_obey_the_law(answer_type: str) -> None:
    path = Path(__file__).parents[1] / "grading" / f"{answer_type}.jsonl"
    for line in path.read_text().splitlines():
        row = json.loads(line)
        problem = make_problem(
            answer_type, row["target"], tuple(row.get("choices", ())), row["question"]
        )
        if answer_type == "mathematics" and not row["target"].strip():
            continue
        assert is_gradable(problem), row["target"]
