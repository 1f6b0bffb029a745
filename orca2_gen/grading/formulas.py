"""Formulas in a text: plain ones and LaTeX in one form, and prose distinguished from formulas.

    as_latex("2*sqrt(3)/x^10")      2 \\cdot \\sqrt{3}/x^{10}
    as_latex("x = 1 or x = -1")     x = 1, x = -1
    read_formula("25\\pi square units")   25\\pi         read_formula("it depends on x")   None

Text that is already LaTeX stays as it is.
"""

from __future__ import annotations

import re

_SIGNS = str.maketrans(
    {"\u03c0": "\\pi ", "\u221e": "\\infty ", "\u221a": "\\sqrt", "\u00d7": "\\cdot "}
    | {"\u22c5": "\\cdot ", "\u00b7": "\\cdot ", "\u00f7": "/", "\u2212": "-", "\u2013": "-"}
    | {"\u2264": "\\le ", "\u2265": "\\ge ", "\u2260": "\\ne ", "\u00b1": "\\pm "}
    | {"\u222a": "\\cup ", "\u2229": "\\cap ", "\u2205": "\\emptyset ", "\u2208": "\\in "}
    | {"\u00b0": "^\\circ", "\u03b8": "\\theta ", "\u03b1": "\\alpha ", "\u03b2": "\\beta "}
    | {"\u00a0": " ", "\u2009": " ", "\u2044": "/", "\u00bd": "\\frac{1}{2}"}
    | {"\u00bc": "\\frac{1}{4}", "\u00be": "\\frac{3}{4}", "\u2153": "\\frac{1}{3}"}
    | {"\u2154": "\\frac{2}{3}", "\u2248": "\\approx "}
    | {
        digit: f"^{{{power}}}"
        for power, digit in enumerate(
            "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
        )
    }
)
_NAMES = "sqrt|arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|log|ln|exp|pi|theta|alpha|beta|infty"
_PLAIN_NAME = re.compile(rf"(?<![A-Za-z\\])({_NAMES})(?![A-Za-z])")
_INFINITY = re.compile(r"(?<![A-Za-z\\])(?:infinity|inf|oo)(?![A-Za-z])")
_OR = re.compile(
    r"\s*,?\s*(?:\\(?:text|mathrm|mbox)\s?\{\s*(?:or|and)\s*\}"
    r"|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z]))\s*"
)
_POWER = re.compile(r"\^\s*([-+]?\d+(?:\.\d+)?(?:/\d+(?![\d.]))?)")
_OPENING = re.compile(r"(\\sqrt|\^)\s*\(")
_BARE_ROOT = re.compile(r"\\sqrt\s*(\d+|[A-Za-z](?![A-Za-z]))")
_MIXED = re.compile(r"(?<![\d.^{])(\d+) (\d+)/(\d+)(?![\d.])")
_DELIMITERS = re.compile(r"\$|\\[()\[\]]|\\(?:displaystyle|left|right|bigl?|bigr?)(?![A-Za-z])")
_EMPHASIS = re.compile(r"\\(?:boxed|fbox|mathbf|boldsymbol)\s?\{([^{}]*)\}")

_COMMAND = re.compile(r"\\(?:text|mathrm|mbox|operatorname)\s?\{[^{}]*\}|\\[A-Za-z]+")
_UNIT = re.compile(
    r"(?<=[\d)}\]\s])\s*(?:(?:square|cubic|sq\.?)\s+)?(?!or\b|and\b|to\b|pi\b|sqrt\b|more\b|less\b)"
    r"[A-Za-z]{2,}\.?(?:\s*/\s*[A-Za-z]+|\s+(?:per|a|of)\s+[A-Za-z]+)?(?:\^\{?[23]\}?)?\s*$"
)
_PROSE = re.compile(r"(?<![A-Za-z\\_{])(?!mod\b|gcd\b|lcm\b|max\b|min\b|det\b|lim\b)[A-Za-z]{3,}")
_REASON = re.compile(r",?\s+(?:because|since|where|so|when|for)\b.*", re.DOTALL)
_LEADING = re.compile(r"^\s*[a-zA-Z]\s*(?:\\in(?![a-zA-Z])|\u2208)\s*")
NAMED_RESULTS = re.compile(
    r"(?:there (?:is|are) )?no (?:real |such )?(?:solutions?|roots?|number|value)s?|none|undefined"
    r"|(?:all )?real numbers|infinitely many(?: solutions)?|does not exist|dne|diverges"
    r"|(?:the )?empty set|even|odd|neither",
    re.IGNORECASE,
)
"""Results in words."""
_SPACING = re.compile(r"\s|\\[,;:! ]|~|\\q?quad(?![a-z])")


def as_latex(text: str) -> str:
    """The formula as LaTeX without delimiters.

    Names, roots, powers and fractions are spelt out; `or` and `and` become commas.
    """
    text = _DELIMITERS.sub("", text.translate(_SIGNS)).strip().rstrip(".")
    text = _EMPHASIS.sub(r"\1", text.replace("**", "^").replace("\\dfrac", "\\frac"))
    text = _INFINITY.sub(r"\\infty", _OR.sub(", ", text))
    text = _PLAIN_NAME.sub(r"\\\1 ", text)
    text = _BARE_ROOT.sub(r"\\sqrt{\1}", text)
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", text)
    text = _POWER.sub(r"^{\1}", _braced(text))
    text = re.sub(r"(?<=[\w})])\s*\*\s*(?=[\w\\({])", r" \\cdot ", text)
    return _LEADING.sub("", text).strip()


def _braced(text: str) -> str:
    """The text with braces instead of parentheses after a root and a power."""
    for found in reversed(list(_OPENING.finditer(text))):
        depth, end = 1, found.end()
        while end < len(text) and depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        if not depth:
            inside = text[found.end() : end - 1]
            text = f"{text[: found.start()]}{found[1]}{{{inside}}}{text[end:]}"
    return text


def read_formula(text: str) -> str | None:
    """The formula that the text states, without a unit or a reason after it.

    None for prose, for a bound and for an empty text.
    """
    text = text.strip().rstrip(".").strip()
    if NAMED_RESULTS.fullmatch(text):
        return text
    text = _REASON.sub("", text) if " " in text else text
    text = _UNIT.sub("", text) if re.search(r"\d|\\", text) else text
    if not re.search(r"[A-Za-z0-9]", text.translate(_SIGNS)):
        return None
    bare = _OR.sub(",", _INFINITY.sub("0", _PLAIN_NAME.sub("0", _COMMAND.sub(" ", text))))
    return None if _PROSE.search(bare) else text.strip()


def squeeze(text: str) -> str:
    """The formula without spaces and typography: equal results are equal formulas."""
    text = as_latex(text).replace("\\tfrac", "\\frac")
    return re.sub(r"\\text\s?\{([^{}]*)\}", r"\1", _SPACING.sub("", text))
