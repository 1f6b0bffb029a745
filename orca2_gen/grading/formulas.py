r"""Formulas in a text: what a text states as one, and one form for gold and answer.

    read_formula("25\pi square units")    25\pi        read_formula("it depends on x")   None
    read_formula("There is no solution")  \emptyset    read_formula("Area = 12 cm^2")    12

Plain text and LaTeX are read alike (latex.py).
"""

from __future__ import annotations

import itertools
import re

from orca2_gen.grading.latex import as_latex, plain_signs, plain_words
from orca2_gen.grading.units import without_unit

_REASON = re.compile(
    r",?\s+(?:because|since|where|so|when|which|rather than"
    r"|as (?:desired|required|stated|claimed)"
    r"|is the (?:answer|result|solution|value|final|only))\b.*"
    r"|,\s+not\b.*|\.\s+(?=[A-Z][a-z]).*|\.?\s+I hope it is correct.*",
    re.DOTALL,
)
"""What may follow a formula: a reason, a remark or another sentence."""
_ABOUT = re.compile(
    r"^(?:about|approximately|approx\.?|roughly|around|exactly|only|just|simply"
    r"|(?:final )?answer\s*[:=]|\\(?:approx|sim(?:eq)?)\b|[=:\u2248~])\s*",
    re.IGNORECASE,
)
_MINUS = re.compile(r"^(?:minus|negative)\s+(?=[\d\\(.]|[a-z]\b)")
_BEFORE_MARKS, _AFTER_MARKS = ":;, \t*_`", ",;:\\ \t*_`\u2713\u2714\u2705\u2611"
_ASIDE = re.compile(r"(?<=\S)\s+\(([^()]*)\)$")
_EQUALS = re.compile(r"\s(?:is )?equals?(?: to)?\s")
_DRESS = re.compile(
    r"^\\(?:underline|mathbf|boldsymbol|bf|rm|text)\s?\{([^{}]*)\}$|^\\(?:bf|rm|it)\b"
)
_COLOR = re.compile(r"\\(?:text)?color\{\w+\}\s?(?:\{([^{}]*)\}$)?")
_SET_BUILDER = re.compile(
    r"\\?\{\s*([a-z])\s*(?:\\mid|\\vert|\||:|\\in\s?\\mathbb\{R\}\s*(?:\\mid|\||:))\s*(.*?)\\?\}"
)
_EXCEPT = re.compile(
    r"(?:x is )?(?:all|any|every) real (?:numbers?|values?)(?: of x)? (?:except|but|other than)"
    r"(?: for)?\s+(?:x\s*=\s*)?(\S+)|\\mathbb\{R\}\s*(?:-|\\setminus|\\backslash)\s*\\?\{(.+?)\\?\}"
)
_POINT = re.compile(r"^[A-Z]\s?(?=\([^()]*,[^()]*\)$)")
_WORDS_BEFORE = re.compile(r"(?:[A-Za-z]+\s+){1,7}(?=[-\\$(\[{\d]|[a-z]\s?[<>=\\])")
_STARTS = re.compile(r"[-\\$(\[{\d]|[A-Za-z](?![A-Za-z])")
_BOUND = re.compile(
    r"\b(?:not|no|never|cannot|than|least|most|over|under|above|below|between|up|depends?|if|or"
    r"|either|neither|nor|root|half|twice|double|triple|times|negative|minus|log|square|cube|power"
    r"|factor|percent|out|plus|divided)\b",
    re.IGNORECASE,
)
_CONDITION = re.compile(
    r"[,;]?(?:\s|\\[,;: ]|\\q?quad)*(?:\b(?:for|if|with)\b|\\text\s?\{\s*(?:for|if|with)\b)"
    r"(?=.*(?:[<>=\u2264\u2265\u2208]|\\(?:[lg]eq?|in)\b|\b(?:all|any|every|some|real|integers?)\b))"
    r".*",
    re.DOTALL,
)
_LABEL = re.compile(
    r"\A(?=[^=]*(?:[A-Za-z]{3}|\\(?:angle|overline|text|triangle|widehat|measuredangle)|[A-Z]{2}))"
    r"[^=<>!\d+*/^]*?=(?!=)\s*(?=\S)"
)
_LEADING = re.compile(r"^\s*[a-zA-Z]\s*(?:\\in(?![a-zA-Z])|\u2208)\s*")
_COMMAND = re.compile(r"\\(?:text|mathrm|mbox|operatorname)\s?\{[^{}]*\}|\\[A-Za-z]+")
_JOINT = re.compile(r"(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])|\\text\s?\{\s*(?:or|and)\s*\}")
_KNOWN = re.compile(
    r"(?<![A-Za-z])(?:a?(?:sin|cos|tan|cot|sec|csc)h?|arc(?:sin|cos|tan)|sqrt|cbrt|abs|log|ln|lg"
    r"|exp|floor|ceil|theta|alpha|beta|gamma|delta|lambda|phi|omega|infinity|infty|inf|mod|gcd|lcm"
    r"|max|min|det|lim)(?![a-z]{3})"
)
_PROSE = re.compile(r"(?<![A-Za-z\\_{\d])[A-Za-z]{3,}")
_NO_VOWEL = re.compile(r"[b-df-hj-np-tv-z]{3,4}")

INFINITE, DIVERGENT, CONVERGENT = "\\text{infinite}", "\\text{divergent}", "\\text{convergent}"
WORDS = frozenset([INFINITE, DIVERGENT, CONVERGENT])
"""Results in words that no formula is equal to."""
_NAMED = (
    (
        re.compile(
            r"(?:(?:the|this) (?:\w+ )?(?:equation|system|inequality|problem) |it )?"
            r"(?:has |have |there (?:is|are|exists?) )?no "
            r"(?:real |such |valid |integer |possible )*"
            r"(?:solutions?|roots?|numbers?|values?|zeros?|intercepts?|limit|x)(?: x)?(?: exists?)?"
            r"|none|(?:slope )?undefined(?: slope)?|not defined|(?:limit )?dne|inconsistent"
            r"|(?:the |it |this |\\)?(?:limit |lim |solution |value |number )?"
            r"(?:does not|doesn't|do not) exist|nonexistent|(?:is )?undefined|(?:the )?empty set"
            r"|(?:the|its) (?:limit|slope|value|expression) is undefined"
            r"|\\(?:empty|null)set|\\varnothing|\\?\{\s*\\?\}|\u2205",
            re.IGNORECASE,
        ),
        "\\emptyset",
    ),
    (
        re.compile(
            r"(?:x is )?(?:any|all|every|the set of all)(?: the)? real(?: numbers?| values?)?"
            r"(?: of x| x)?|all reals|(?:the )?real numbers|\u211d|\\mathbb\s?\{?R\}?|\\R(?:eals)?",
            re.IGNORECASE,
        ),
        "(-\\infty,\\infty)",
    ),
    (
        re.compile(
            r"(?:there are |it has |has )?(?:infinitely many|infinite|an infinite number of)"
            r"(?: solutions?)?",
            re.IGNORECASE,
        ),
        INFINITE,
    ),
    (
        re.compile(
            r"(?:it |(?:the|this) (?:series|integral|sequence|limit|sum) )?"
            r"(?:diverges|is divergent|divergent|does not converge)",
            re.IGNORECASE,
        ),
        DIVERGENT,
    ),
    (
        re.compile(
            r"(?:it |(?:the|this) (?:series|integral|sequence|sum) )?"
            r"(?:converges|is convergent|convergent)",
            re.IGNORECASE,
        ),
        CONVERGENT,
    ),
)
"""Results in words, and one form for each. What is not there is one result, however it is said."""
_TEXT_AROUND = re.compile(r"\\(?:text|textrm|textnormal|mathrm|mbox|textbf)\s?\{([^{}]*)\}")
_DOTS = re.compile(r"\.+$")
_AND = re.compile(r"(?<![A-Za-z\\])and(?![A-Za-z])")
_RELATION = re.compile(r"[<>\u2264\u2265]|\\[lg]eq?\b")
_SPACING = re.compile(r"\s|\\[,;:! ]|~|\\q?quad(?![a-z])")


def read_formula(text: str) -> str | None:
    """The formula that the text states, without a label, a unit, a condition or a reason.

    Results in words have one form. None for prose, for a bound and for an empty text.
    """
    text = _DOTS.sub("", " ".join(text.split())).strip()
    if named := named_result(text):
        return named
    if found := _EXCEPT.fullmatch(text):
        return f"x \\ne {found[1] or found[2]}"
    text = _REASON.sub("", text) if " " in text else text
    text = _CONDITION.sub("", text).strip() or text
    text = _ABOUT.sub("", plain_signs(text).lstrip(_BEFORE_MARKS).rstrip(_AFTER_MARKS))
    text = _undressed(_EQUALS.sub(" = ", plain_words(_MINUS.sub("-", text))))
    if numeral(text):
        return text
    text = _POINT.sub("", _LEADING.sub("", text))
    if "=" in text:
        text = _LABEL.sub("", text, count=1)
    if found := _SET_BUILDER.fullmatch(text):
        text = found[2].strip()
    text = without_unit(text)
    if not re.search(r"[A-Za-z0-9]", text):
        return None
    return None if _is_prose(text) else text.strip()


def _undressed(text: str) -> str:
    """The text without emphasis around it, and without an aside in words after it."""
    text = _COLOR.sub(lambda found: found[1] or "", text)
    text = _DRESS.sub(lambda found: found[1] or "", text)
    text = text.lstrip(_BEFORE_MARKS).rstrip(_AFTER_MARKS)
    aside = _ASIDE.search(text)
    if aside and (_is_prose(aside[1]) or aside[1].startswith(("\\approx", "=", "~"))):
        text = text[: aside.start()]
    return text


def read_announced(text: str) -> str | None:
    """The formula that an announced text states, alone or in a sentence: `the roots are 1, 2`."""
    if " is " in text and not _BOUND.search(text):
        _, _, rest = text.partition(" is ")
        if _STARTS.match(rest):
            return read_formula(rest)
    formula = read_formula(text)
    if formula is not None or "\n" in text:
        return formula
    before = _WORDS_BEFORE.match(text)
    if before and not _BOUND.search(before[0]):
        formula = read_formula(text[before.end() :])
    _, verb, rest = text.rpartition(" is ")
    return read_formula(rest) if formula is None and verb else formula


def named_result(text: str) -> str | None:
    r"""The one form of a result in words, such as \emptyset; None if the text is none of them."""
    words = " ".join(_TEXT_AROUND.sub(r"\1", text.strip(" $*.!")).split())
    if len(words) > 60:
        return None
    return next((form for pattern, form in _NAMED if pattern.fullmatch(words)), None)


def _is_prose(text: str) -> bool:
    bare = _KNOWN.sub(" ", _JOINT.sub(",", _COMMAND.sub(" ", text)))
    return any(not _is_product(found[0]) for found in _PROSE.finditer(bare))


def _is_product(letters: str) -> bool:
    """Whether letters in a row are variables: consecutive ones, `abc`, or none that is spoken."""
    lowered = letters.lower()
    runs = all(ord(b) - ord(a) == 1 for a, b in itertools.pairwise(lowered))
    return letters == lowered and (runs or _NO_VOWEL.fullmatch(lowered) is not None)


_NUMERAL = re.compile(
    r"\(?(-?[0-9A-Za-z]{1,60})\)?\s?(?:_\s?\{?(?:\\text\{)?|\(?\s?(?:in )?base\s+)(\w+)\)?\}{0,2}"
)
_BASES = {
    word: str(base)
    for base, word in enumerate(("two", "three", "four", "five", "six", "seven", "eight"), start=2)
}


def numeral(text: str) -> tuple[str, str] | None:
    """The digits of a numeral in a stated base and that base: 2220_5, 31 base 8; else None."""
    found = _NUMERAL.fullmatch(text)
    if found is None or not any(map(str.isdigit, found[1])):
        return None
    base = _BASES.get(found[2], found[2])
    return (found[1].lower(), base) if base.isdigit() else None


def squeeze(text: str) -> str:
    """The formula without spaces and typography: equal results are equal formulas."""
    joint = "&" if _AND.search(text) and _RELATION.search(text) else ""
    text = as_latex(text).replace("\\tfrac", "\\frac") + joint
    return re.sub(r"\\text\s?\{([^{}]*)\}", r"\1", _SPACING.sub("", text))
