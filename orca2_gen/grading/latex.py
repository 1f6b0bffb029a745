r"""Formulas in plain text, in LaTeX or in both -> LaTeX that math-verify reads as people mean it.

    2*sqrt(3)/x^10    2 \cdot \sqrt{3}/x^{10}       4/3 pi      \frac{4}{3} \pi
    x = 1 or x = -1   x = 1, x = -1                 log2(3)     \log_{2}(3)

A power binds before a quotient, so x^2/4 is a quarter of x^2. A fraction of two numbers before a
symbol multiplies it: 1/2 x is half of x. Text that is already LaTeX stays as it is.
"""

from __future__ import annotations

import re
from fractions import Fraction

_SIGNS = str.maketrans(
    {"\u03c0": "\\pi ", "\u221e": "\\infty ", "\u221a": "\\sqrt", "\u00d7": "\\cdot "}
    | {"\u22c5": "\\cdot ", "\u00b7": "\\cdot ", "\u00f7": "/", "\u2212": "-", "\u2013": "-"}
    | {"\u2264": "\\le ", "\u2265": "\\ge ", "\u2260": "\\ne ", "\u00b1": "\\pm "}
    | {"\u222a": "\\cup ", "\u2229": "\\cap ", "\u2205": "\\emptyset ", "\u2208": "\\in "}
    | {"\u00b0": "^\\circ ", "\u03b8": "\\theta ", "\u03b1": "\\alpha ", "\u03b2": "\\beta "}
    | {"\u03b3": "\\gamma ", "\u03b4": "\\delta ", "\u03bb": "\\lambda ", "\u03bc": "\\mu "}
    | {"\u03c6": "\\phi ", "\u03c9": "\\omega ", "\u03c3": "\\sigma ", "\u03c1": "\\rho "}
    | {"\u03b5": "\\epsilon ", "\u0394": "\\Delta ", "\u03c4": "\\tau ", "\u03c8": "\\psi "}
    | {"\u230a": "\\lfloor ", "\u230b": "\\rfloor ", "\u2308": "\\lceil ", "\u2309": "\\rceil "}
    | {"\u00ba": "^\\circ ", "\u2215": "/", "\u2216": "\\setminus ", "\u6216": " or "}
    | {"\u27e8": "\\langle ", "\u27e9": "\\rangle ", "\u2155": "\\frac{1}{5}"}
    | {chr(0xFF10 + digit): str(digit) for digit in range(10)}
    | {"\u2220": "\\angle ", "\u211d": "\\mathbb{R}", "\u2124": "\\mathbb{Z}"}
    | {"\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2044": "/", "\u00bd": "\\frac{1}{2}"}
    | {"\u00bc": "\\frac{1}{4}", "\u00be": "\\frac{3}{4}", "\u2153": "\\frac{1}{3}"}
    | {
        "\u2154": "\\frac{2}{3}",
        "\u2248": "\\approx ",
        "\u221b": "\\sqrt[3]",
        "\u221c": "\\sqrt[4]",
    }
)
_SUPERSCRIPTS = re.compile("[\u207a\u207b]?[\u00b9\u00b2\u00b3\u2070\u2074-\u2079]+|\u207f")
_SUBSCRIPTS = re.compile("[\u2080-\u2089]+")
_LOWERED = str.maketrans(
    "\u207a\u207b\u00b9\u00b2\u00b3\u2070\u2074\u2075\u2076\u2077\u2078\u2079\u207f"
    "\u2080\u2081\u2082\u2083\u2084\u2085\u2086\u2087\u2088\u2089",
    "+-1230456789n0123456789",
)


def _spoken_root(found: re.Match[str]) -> str:
    index = "[3]" if found[1] == "cube" else ""
    return f"\\sqrt{index}{{{found[2] or found[3]}}}"


def _binomial(found: re.Match[str]) -> str:
    return f"\\binom{{{found[1] or found[3]}}}{{{found[2] or found[4]}}}"


def _vector(found: re.Match[str]) -> str:
    return f"({(found[1] or found[2]).strip()})"


_INVERSE = re.compile(r"(?<![A-Za-z\\])a(sin|cos|tan)(?=[ (])")
_EXPONENT = re.compile(r"(?<=\d)[eE]([-+]?\d{1,3})(?![\d.])")
_NEGATIVE_POWER = re.compile(r"\^\s*-\s*([A-Za-z])(?![A-Za-z])")
_SPOKEN = (
    (re.compile(r"\b(square|cube) ?root of (?:\((.+?)\)|(\w+))"), _spoken_root),
    (re.compile(r"\blog base (\w+) of (\w+)"), r"\\log_{\1}{\2}"),
    (re.compile(r"\\log_\{?e\}?(?![A-Za-z])"), r"\\ln "),
    (re.compile(r"(?<!\w)(\d+) choose (\d+)|(?<![A-Za-z\\])C\((\d+), ?(\d+)\)"), _binomial),
    (re.compile(r"\+\s?/\s?-|\+-"), r"\\pm "),
    (re.compile(r"(?<=[\])])\s*union\s*(?=[\[(])"), r" \\cup "),
    (re.compile(r"\\langle\b(.+?)\\rangle\b|^<([^<>=]+,[^<>=]+)>$"), _vector),
)
"""Ways to say a formula, and how it is written."""
_FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp"
NAMES = f"sqrt|{_FUNCTIONS}|pi|theta|alpha|beta|gamma|delta|lambda|phi|omega|infty|max|min|gcd|det"
_PLAIN_NAME = re.compile(rf"(?<![A-Za-z\\])({NAMES})(?![A-Za-z])")
# A function that touches its variable, and perhaps a factor: sinx, xlnx.
_RUN_TOGETHER = re.compile(r"(?<![A-Za-z\\])([a-z]?)(sin|cos|tan|ln|log)([a-z]?)(?![A-Za-z])")
_INFINITY = re.compile(r"(?<![A-Za-z\\])(?:infinity|inf|oo)(?![A-Za-z])")
_ROOT = re.compile(r"(?<![A-Za-z\\])cbrt(?![A-Za-z])")
_LOGARITHM = re.compile(r"(?<![A-Za-z])\\?log\s?_?\s?(\d+)\s?(?=[( ]|\{)")
_OR = re.compile(
    r"\s*,?\s?(?:\\text\s?\{\s*(?:or|and)\s*\}|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z]))\s*"
)
_TEXT = re.compile(
    r"\\(?:textnormal|textrm|textbf|textit|textsf|mathrm|mbox|operatorname)(?=\s?\{)"
)
_PLAIN_TEXT = re.compile(r"\\text\s?\{\s*(\w|-?\d[\d.,]*|[^{}]*[<>=+^][^{}]*)\s*\}")
_POWER = re.compile(r"\^\s*([-+]?\d+(?:\.\d+)?)")
_OPENING = re.compile(r"(\\sqrt(?:\[\d\])?|\^|\babs\s?|\bfloor\s?|\bceil\s?)\s*\(")
_AROUND = {"abs": ("|", "|"), "floor": ("\\lfloor ", "\\rfloor "), "ceil": ("\\lceil ", "\\rceil ")}
_BARE_ROOT = re.compile(r"(\\sqrt(?:\[\d\])?)\s*(\d+|[A-Za-z](?![A-Za-z]))")
_MIXED = re.compile(r"(?<![\d.^{])(\d+) (\d+)/(\d+)(?![\d.])")
_FRACTION = re.compile(r"(?<![\w.,^/)}\]])(\d+)\s?/\s?(\d+)(?![\d.!]|\s?[\^/])")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\overline\s?\{(\d+)\}")
_DELIMITERS = re.compile(
    r"\\?\$|\\[()\[\]]|\\(?:displaystyle|left|right|bigl?|bigr?|Bigl?|Bigr?)(?![A-Za-z])"
)
_EMPHASIS = re.compile(r"\\(?:boxed|fbox|mathbf|boldsymbol|bf)\s?\{([^{}]*)\}")
_ROWS = re.compile(r"\[\s*(\[[^\[\]]*\](?:\s*,\s*\[[^\[\]]*\])*)\s*\]")
_RELATIONS = {"<=": "\\le ", ">=": "\\ge ", "!=": "\\ne ", "==": "="}
_RELATION = re.compile(r"<=|>=|!=|==")
_LONE_D = re.compile(r"\\text\s?\{[^{}]*\}|\\[A-Za-z]+|d")
_QUOTIENT_OF_LOGARITHMS = re.compile(
    r"\\?(ln|log|sin|cos|tan)\s+(\d+|[a-z])\s*/\s*\\?(ln|log|sin|cos|tan)\s+(\d+|[a-z])"
    r"(?![\w(^])"
)
_UNION = re.compile(r"(?<=[\])}])\s*(?:U|u)\s*(?=[\[({\\])")


_GAPS = re.compile(r"(?:(?<!\\)\\[ ,;:!]|\\q?quad(?![a-z])|~|\s)+")
_GROUPED = re.compile(r"(?<=\d)(?:\\[,!] ?|,\\!\s?|\{,\})(?=\d{3}(?!\d))")
_SHORT_FRACTION = re.compile(r"\\[dtc]?frac\s?(\d)\s?(\d)")


def plain_signs(text: str) -> str:
    """The text without delimiters, its typographic signs as LaTeX, one command for its words."""
    if not text.isascii():
        text = _SUPERSCRIPTS.sub(lambda found: f"^{{{found[0].translate(_LOWERED)}}}", text)
        text = _SUBSCRIPTS.sub(lambda found: f"_{{{found[0].translate(_LOWERED)}}}", text)
        text = text.translate(_SIGNS)
    if "\\" in text or "$" in text:
        text = _TEXT.sub(r"\\text", _DELIMITERS.sub("", text))
        text = _GAPS.sub(" ", _GROUPED.sub("", text))
        text = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", text).replace("\\degree", "^\\circ")
    return text.replace("{:}", ":")


def plain_words(text: str) -> str:
    """The text with what is said in words, or in other signs, written as a formula."""
    for pattern, written in _SPOKEN:
        text = pattern.sub(written, text)
    return text


def as_latex(text: str) -> str:
    """The formula as LaTeX without delimiters.

    Names, roots, powers and fractions are spelt out; `or` and `and` become commas.
    """
    text = plain_words(plain_signs(" ".join(text.split()))).strip().rstrip(".")
    text = _EXPONENT.sub(r" \\cdot 10^{\1}", _NEGATIVE_POWER.sub(r"^{-\1}", text))
    text = _PLAIN_TEXT.sub(r"\1", _INVERSE.sub(r"\\arc\1", text))
    text = _EMPHASIS.sub(r"\1", text.replace("**", "^").replace("\\dfrac", "\\frac"))
    text = _REPEATING.sub(_as_fraction, text) if "\\overline" in text else text
    text = _RELATION.sub(lambda found: _RELATIONS[found[0]], text)
    text = _INFINITY.sub(r"\\infty", _OR.sub(", ", text))
    if rows := _ROWS.fullmatch(text.strip()):
        return _matrix(rows[1])
    text = _UNION.sub(r" \\cup ", text)
    text = _QUOTIENT_OF_LOGARITHMS.sub(r"\\frac{\\\1 \2}{\\\3 \4}", text)
    text = _LOGARITHM.sub(r"\\log_{\1} ", _ROOT.sub(r"\\sqrt[3]", text))
    text = _PLAIN_NAME.sub(r"\\\1 ", _RUN_TOGETHER.sub(r"\1\\\2 \3", text))
    text = _BARE_ROOT.sub(r"\1{\2}", text)
    text = _FRACTION.sub(r"\\frac{\1}{\2}", _MIXED.sub(r"\1\\frac{\2}{\3}", text))
    text = _POWER.sub(r"^{\1}", _braced(text))
    if "\\int" not in text:  # the library reads any other d as a differential: d \cdot x
        text = _LONE_D.sub(lambda found: "D" if found[0] == "d" else found[0], text)
    return re.sub(r"(?<=[\w})!])\s*\*\s*(?=[\w\\({|-])", r" \\cdot ", text).strip()


def _braced(text: str) -> str:
    """The text with braces instead of parentheses after a root and a power, and bars for abs."""
    for found in reversed(list(_OPENING.finditer(text))):
        depth, end = 1, found.end()
        while end < len(text) and depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        if not depth:
            opening, closing = _AROUND.get(found[1].strip(), (found[1] + "{", "}"))
            inside = text[found.end() : end - 1]
            text = f"{text[: found.start()]}{opening}{inside}{closing}{text[end:]}"
    return text


def _as_fraction(found: re.Match[str]) -> str:
    """A decimal that repeats, as the fraction that it is."""
    whole, start, period = found[1] or "0", found[2], found[3]
    nines = 10 ** len(start) * (10 ** len(period) - 1)
    value = int(whole) + Fraction(int(start + period) - int(start or "0"), nines)
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def _matrix(rows: str) -> str:
    """A matrix of rows in brackets."""
    lines = [line.replace(",", " & ") for line in re.findall(r"\[([^\[\]]*)\]", rows)]
    return "\\begin{pmatrix}" + " \\\\ ".join(lines) + "\\end{pmatrix}"
