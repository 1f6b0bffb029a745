from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.grading.formula_equality import MAX_FORMULA_CHARS
from orca2_gen.grading.formulas import read_formula, squeeze
from orca2_gen.grading.latex import as_latex


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("2*sqrt(3)/x^10", "2 \\cdot \\sqrt{3}/x^{10}"),
        ("x = 1 or x = -1", "x = 1, x = -1"),
        ("e^(2x)", "e^{2x}"),
        ("2\u03c0", "2\\pi"),
        ("\u221a3", "\\sqrt{3}"),
        ("1 1/2", "1\\frac{1}{2}"),
        ("\\frac{1}{2}", "\\frac{1}{2}"),
        ("$x \\in [0, 1]$", "x \\in [0, 1]"),
        ("4/3 pi", "\\frac{4}{3} \\pi"),
        ("x^2/4", "x^{2}/4"),
        ("1/2 x^2", "\\frac{1}{2} x^{2}"),
        ("log2(8)", "\\log_{2} (8)"),
        ("0.\\overline{27}", "\\frac{3}{11}"),
        ("2*d*x", "2 \\cdot D \\cdot x"),
        ("x**2", "x^{2}"),
        ("x \\to \\infty", "x \\to \\infty"),
    ],
)
def test_plain_formulas_become_latex(text: str, latex: str) -> None:
    assert as_latex(text).replace("  ", " ") == latex


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("25\\pi square units", "25\\pi"),
        ("5 apples", "5"),
        ("x = 5 because 2 + 3 is 5", "x = 5"),
        ("no solution", "\\emptyset"),
        ("x \\in [0, 1]", "[0, 1]"),
        ("Area = 12 cm^2", "12"),
        ("6xyz", "6xyz"),
        ("5s", "5s"),
        ("it depends on x", None),
        ("at least 5", None),
        ("5 or more", None),
        ("unknown", None),
        ("", None),
    ],
)
def test_a_formula_is_told_from_prose(text: str, formula: str | None) -> None:
    assert read_formula(text) == formula


@given(
    unit=st.text("x1^({})\\sqrt or,*/+-. $\u221a\u00bd", min_size=1, max_size=8),
    start=st.sampled_from(["", "^(", "\\sqrt(", "1 "]),
)
def test_no_formula_however_repetitive_takes_a_second(unit: str, start: str) -> None:
    text = (start + unit * MAX_FORMULA_CHARS)[:MAX_FORMULA_CHARS]
    started = time.process_time()
    squeeze(text)
    read_formula(text)
    assert time.process_time() - started < 1.0


@given(text=st.text("x1^({})\\sqrt or,*/+-. $\u221a\u00bd", max_size=60))
def test_any_text_can_be_made_alike_and_spaces_around_it_change_nothing(text: str) -> None:
    assert squeeze(f"  {text} ") == squeeze(text)
    formula = read_formula(text)
    assert formula is None or formula.strip()
