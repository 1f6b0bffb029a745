"""Mathematics in plain characters: LaTeX markup and typographic signs taken off."""

from __future__ import annotations

import re
import unicodedata

# Other minus and product signs and spaces, full-width digits and the fraction slash. Vulgar
# fractions get a space before them, since NFKC turns 2 and 1/2 into 21/2.
_PLAIN = str.maketrans(
    dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\u2014\ufe63\uff0d", "-")
    | dict.fromkeys("\u00a0\u2007\u2009\u202f", " ")
    | {chr(0xFF10 + digit): str(digit) for digit in range(10)}
    | {"\u2044": "/", "\u00bd": " 1/2", "\u00bc": " 1/4", "\u00be": " 3/4", "\u2153": " 1/3"}
    | {"\u2154": " 2/3", "\u215b": " 1/8", "\u066a": "%", "\uff05": "%"}
    | {"\u215c": " 3/8", "\u215d": " 5/8", "\u215e": " 7/8", "\u2155": " 1/5", "\u2156": " 2/5"}
    | {"\u2157": " 3/5", "\u2158": " 4/5", "\u2159": " 1/6", "\u215a": " 5/6"}
    | {"\u2150": " 1/7", "\u2151": " 1/9", "\u2152": " 1/10", "\u2189": " 0/3"}
    | dict.fromkeys("\u00b7\u22c5\u2219", "*")
)
_SUPERSCRIPT = re.compile("[\u207a\u207b]?[\u00b9\u00b2\u00b3\u2070\u2074-\u2079]+")
_BRACED_POWER = re.compile(r"\^\s?\{\s?([-+]?\d+)\s?\}")
_LATEX = re.compile(
    r"\\[dt]?frac\s?\{\s?(?P<over>-?\d+)\s?\}\s?\{\s?(?P<under>\d+)\s?\}"
    r"|\\(?:text|mathrm|mathbf|textbf)\s?\{(?P<words>[^{}]*)\}"
    r"|(?P<comma>\{,\}|,\\!)|\\(?P<sign>[$%])|\\[,;:! ]|\\[()\[\]]|~"
    r"|(?P<product>\\(?:times|cdot)(?![A-Za-z]))|(?P<degrees>\^\s?(?:\\circ(?![A-Za-z])|\{\\circ\}))"
)


def plain_mathematics(text: str) -> str:
    """The text with LaTeX markup and typographic signs made plain: 1{,}000 is 1,000."""
    if "\\" in text or "{,}" in text or "~" in text:
        text = _LATEX.sub(_undress, text)
    if not text.isascii():
        text = _SUPERSCRIPT.sub(_lower, text.translate(_PLAIN))
    return _BRACED_POWER.sub(r"^\1", text) if "^" in text else text


def _lower(found: re.Match[str]) -> str:
    return "^" + unicodedata.normalize("NFKC", found[0]).replace("\u2212", "-")


def _undress(found: re.Match[str]) -> str:
    if found["over"] is not None:
        return f" {found['over']}/{found['under']}"  # 1\frac{1}{2} is not 11/2
    if found["words"] is not None:
        return found["words"]
    if found["comma"] is not None:
        return ","
    if found["sign"] is not None:
        return found["sign"]
    if found["degrees"] is not None:
        return "\u00b0"
    return "*" if found["product"] is not None else " "
