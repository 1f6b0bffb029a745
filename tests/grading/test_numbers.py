"""One number in any notation reads as that number; a text with none, or two, reads as none."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.grading.numbers import MAX_DIGITS, Number, parse_number, read_number

Dress = Callable[[int], str]


def grouped(separator: str) -> Dress:
    return lambda n: f"{n:,}".replace(",", separator)


BARE: dict[str, Dress] = {
    "plain": str,
    "commas": "{:,}".format,
    "spaces": grouped(" "),
    "thin spaces": grouped("\u2009"),
    "no-break spaces": grouped("\u202f"),
    "apostrophes": grouped("'"),
    "underscores": grouped("_"),
    "typographic apostrophes": grouped("\u2019"),
    "LaTeX commas": grouped("{,}"),
    "negative thin spaces": grouped(",\\!"),
    "LaTeX spaces": grouped("\\,"),
    "leading zeros": lambda n: f"{n:015d}",
    "an explicit sign": "{:+}".format,
    "a sign apart": lambda n: f"{n:+}".replace("-", "- ").replace("+", "+ "),
    "a typographic minus": lambda n: str(n).replace("-", "\u2212"),
    "an en dash": lambda n: str(n).replace("-", "\u2013"),
    "full-width digits": lambda n: "".join(
        chr(0xFF10 + int(c)) if c.isdigit() else c for c in str(n)
    ),
    "a decimal point": "{:,}.0".format,
    "more decimals": "{}.000".format,
    "a last full stop": "{}.".format,
    "dollars": "${:,}".format,
    "dollars behind the sign": lambda n: f"{n:,}".replace("-", "-$") if n < 0 else f"${n}",
    "US dollars": "US${}".format,
    "euros": "\u20ac{:,}".format,
    "pounds": "\u00a3 {}".format,
    "rupees": "Rs. {}".format,
    "a currency's code": "USD {}".format,
    "escaped dollars": "\\${}".format,
    "spaces around": "  {} ".format,
    "a quotient by one": "{}/1".format,
    "a quotient": lambda n: f"{3 * n} / 3",
    "a LaTeX quotient": lambda n: f"\\frac{{{2 * n}}}{{2}}",
    "a display quotient": lambda n: f"\\dfrac{{ {n} }}{{ 1 }}",
    "an exponent": "{}e0".format,
    "a capital exponent": "{}.0E+00".format,
    "a power of ten": "{} x 10^0".format,
}
"""What a gold answer may be written as, and so parse_number too takes it for a number."""
IN_TEXT: dict[str, Dress] = {
    "mathematics": "${}$".format,
    "inline mathematics": "\\({:,}\\)".format,
    "a unit": "{} apples".format,
    "a unit of two words": "{:,} square metres".format,
    "a unit with a power": "{} cm^2".format,
    "a LaTeX unit": "{}\\text{{ cm}}".format,
    "a LaTeX unit with a power": "{}\\ \\mathrm{{cm}}^{{2}}".format,
    "a unit with a superscript": "{} m\u00b2".format,
    "a rate": "{} km/h".format,
    "degrees": "{}\u00b0".format,
    "LaTeX degrees": "{}^\\circ".format,
    "LaTeX degrees in braces": "{}^{{\\circ}}C".format,
    "about": "about {}".format,
    "approximately": "approximately {:,}".format,
    "a tilde": "~{}".format,
    "an equals sign": "= {}".format,
    "an equation": "x = {}".format,
    "a sum": "1 + 2 = {}".format,
    "a reason": "{} because there are so many".format,
    "a clause": "{:,}, since the others left".format,
    "an aside": "{} (as we saw)".format,
    "parentheses": "({})".format,
    "words of a minus": lambda n: f"minus {-n}" if n < 0 else str(n),
    "words of a negative": lambda n: f"Negative {-n:,}" if n < 0 else str(n),
}
SENTENCES = ("She earns ${} a week.", "So there are {:,} of them.", "The total comes to {}")
SENTENCES += (
    "The difference between the prices was {} dollars per hour.",
    "She has {} more than Bob.",
)
DRESSES = BARE | IN_TEXT


def value_of(text: str, *, anywhere: bool = False) -> Fraction | int | None:
    number = read_number(text, anywhere=anywhere)
    return None if number is None else number.value


@pytest.mark.parametrize("dress", DRESSES)
@given(n=st.integers(-(10**12), 10**12))
def test_an_integer_reads_as_itself_in_every_dress(dress: str, n: int) -> None:
    assert value_of(DRESSES[dress](n)) == n


@pytest.mark.parametrize("dress", BARE)
@given(n=st.integers(-(10**12), 10**12))
def test_a_bare_number_is_a_number_and_no_more(dress: str, n: int) -> None:
    number = parse_number(BARE[dress](n))
    assert number is not None and number.value == n and not number.is_percent


@pytest.mark.parametrize("dress", IN_TEXT)
@given(n=st.integers(-999, -1))
def test_a_number_with_words_around_it_is_more_than_a_number(dress: str, n: int) -> None:
    if dress not in ("inline mathematics", "a tilde"):  # the dress is taken off, nothing is left
        assert parse_number(IN_TEXT[dress](n)) is None


@pytest.mark.parametrize("sentence", SENTENCES)
@given(n=st.integers(0, 10**9))
def test_the_only_number_of_a_sentence_is_read_where_that_is_asked_for(
    sentence: str, n: int
) -> None:
    assert value_of(sentence.format(n), anywhere=True) == n
    assert value_of(sentence.format(n)) is None


decimals = st.decimals(-(10**6), 10**6, places=4)
SUPERSCRIPTS = str.maketrans(
    "-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
)


@given(d=decimals, power=st.integers(-30, 30))
def test_powers_of_ten_move_the_point_in_every_dress(d: Decimal, power: int) -> None:
    expected = Fraction(d) * Fraction(10) ** power
    for text in (
        f"{d}e{power}",
        f"{d}E{power:+}",
        f"{d} x 10^{power}",
        f"{d}*10^{{{power}}}",
        f"{d} \u00d7 10^{power}",
        f"{d} \u00d7 10{str(power).translate(SUPERSCRIPTS)}",
        f"{d}\u00b710{str(power).translate(SUPERSCRIPTS)}",
        f"{d} \\times 10^{{{power}}}",
        f"{d}\\times10^{{{power}}}",
        f"{d} \\cdot 10^{{ {power} }}",
        f"${d} \\cdot 10^{{{power}}}$ m",
    ):
        assert value_of(text) == expected, text
    assert value_of(f"They have {d} x 10^{power} of them", anywhere=True) == expected


@given(d=decimals)
def test_a_percentage_is_a_hundredth_and_known_as_one(d: Decimal) -> None:
    for dress in ("{}%", "{} %", "{}\\%", "{} percent", "{} per cent", "{} percentage points"):
        number = read_number(dress.format(d))
        assert number is not None and number.is_percent, dress
        assert (number.value, number.figure) == (Fraction(d) / 100, Fraction(d))
    plain = read_number(str(d))
    assert plain is not None and not plain.is_percent and plain.figure == Fraction(d)


SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}


@given(d=decimals, scale=st.sampled_from(list(SCALES)))
def test_a_scale_word_multiplies(d: Decimal, scale: str) -> None:
    expected = Fraction(d) * 10 ** SCALES[scale]
    texts = [f"{d} {scale}", f"${d} {scale.title()}", f"{d} {scale} people"]
    if scale.endswith("ion"):
        texts.append(f"{d} {scale}s")
    assert {value_of(text) for text in texts} == {expected}
    assert value_of(f"{d}k") == Fraction(d) * 1000


@given(n=st.integers(10**6, 10**12), cents=st.integers(0, 99))
def test_points_that_group_and_a_decimal_comma_are_read_where_they_are_certain(
    n: int, cents: int
) -> None:
    points = f"{n:,}".replace(",", ".")
    assert value_of(points) == n
    assert value_of(f"{points},{cents:02d}") == n + Fraction(cents, 100)
    assert value_of(f"\u20ac{n % 1000},{cents:02d}") == n % 1000 + Fraction(cents, 100)
    assert value_of(f"1.{n % 900 + 100}") == 1 + Fraction(n % 900 + 100, 1000)


@given(whole=st.integers(1, 999), over=st.integers(0, 999), under=st.integers(1, 999))
def test_fractions_and_mixed_numbers_read_by_value(whole: int, over: int, under: int) -> None:
    part = Fraction(over, under)
    for text in (f"{over}/{under}", f"{over} / {under}", f"\\tfrac{{{over}}}{{{under}}}"):
        assert value_of(text) == part
        assert value_of(f"-{text}") == -part
    for text in (
        f"{whole} {over}/{under}",
        f"{whole}\\frac{{{over}}}{{{under}}}",
        f"{whole} \\frac{{{over}}}{{{under}}}",
    ):
        assert value_of(text) == whole + part
        assert value_of(f"-{text} hours") == -(whole + part)


VULGAR = [
    letter
    for letter in map(chr, range(0x80, 0x3000))
    if "FRACTION" in unicodedata.name(letter, "")
    and unicodedata.decomposition(letter).startswith("<fraction>")
    and unicodedata.name(letter) != "FRACTION NUMERATOR ONE"
]


@pytest.mark.parametrize("letter", VULGAR)
def test_every_vulgar_fraction_of_unicode_reads_by_value(letter: str) -> None:
    part = Fraction(unicodedata.numeric(letter)).limit_denominator(10)
    assert value_of(letter) == part
    for text in (f"2{letter}", f"2 {letter}"):
        assert value_of(text) == 2 + part
        assert value_of(f"-{text}") == -(2 + part)


ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen")
TEENS += ("eighteen", "nineteen")
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def in_words(n: int, hyphen: str) -> str:
    if n < 20:
        return (ONES + TEENS)[n]
    return TENS[n // 10 - 2] + (hyphen + ONES[n % 10] if n % 10 else "")


def long_words(n: int) -> str:
    """The number in words, with an `and` after its hundreds."""
    groups = []
    for scale in ("", "thousand", "million", "billion", "trillion"):
        n, group = divmod(n, 1000)
        hundreds, rest = divmod(group, 100)
        parts = [f"{ONES[hundreds]} hundred"] * (hundreds > 0) + [in_words(rest, "-")] * (rest > 0)
        groups.append(f"{' and '.join(parts)} {scale}".strip() if group else "")
    return " ".join(filter(None, reversed(groups))) or "zero"


@given(n=st.integers(2, 10**15 - 1))
def test_number_words_of_any_size_read_as_their_number(n: int) -> None:
    words = long_words(n)
    for text in (words, words.title(), f"{words}.", f"{words} square metres", f"about {words}"):
        assert value_of(text) == n, text
    assert value_of(words.replace(" and ", " ")) == n
    assert value_of(f"It comes to {words} dollars", anywhere=True) == n
    assert value_of(f"minus {words}") == -n
    percent = read_number(f"{words} percent")
    assert percent is not None and percent.is_percent and percent.figure == n


@given(a=st.integers(2, 10**6), b=st.integers(2, 10**6), joint=st.sampled_from([" or ", " to "]))
def test_two_numbers_in_words_are_none(a: int, b: int, joint: str) -> None:
    if a != b:
        assert read_number(f"{long_words(a)}{joint}{long_words(b)}") is None
        assert read_number(f"It is {long_words(a)}{joint}{long_words(b)}") is None


@given(root=st.integers(0, 50), power=st.integers(-9, 60))
def test_a_power_of_a_number_reads_by_value(root: int, power: int) -> None:
    for text in (
        f"{root}^{power}",
        f"{root}^{{{power}}}",
        f"{root}**{power}",
        f"${root}^{{{power}}}$ m",
    ):
        assert value_of(text) == (Fraction(root) ** power if root or power > 0 else None)


@given(d=decimals)
def test_a_suffix_multiplies_and_a_unit_apart_does_not(d: Decimal) -> None:
    for suffix, scale in {"K": 10**3, "k": 10**3, "M": 10**6, "B": 10**9, "bn": 10**9}.items():
        assert value_of(f"{d}{suffix}") == value_of(f"${d}{suffix} in all") == Fraction(d) * scale
    for unit in (" K", "m", " m", "b", "kg", "KB", " M"):
        assert value_of(f"{d}{unit}") == Fraction(d)


@pytest.mark.parametrize("hyphen", ["-", " "])
def test_number_words_below_a_hundred_read_as_their_number(hyphen: str) -> None:
    for n in range(100):
        word = in_words(n, hyphen)
        for text in (word, word.title(), f"{word}.", f"{word} apples", f"{word} metres."):
            assert value_of(text) == n, text
        for text in (f"minus {word}", f"Negative {word} degrees"):
            assert value_of(text) == -n, text
        percent = read_number(f"{word} percent")
        assert percent is not None and percent.is_percent and percent.figure == n


NO_NUMBERS = (
    *("", " ", ".", "-", "$", "%", "()", "unknown", "no idea", "x", "a1", "e5", "5 or 5K"),
    *("5 or 6", "5 to 10", "5-10", "5 - 10", "5 and 6", "5, 6", "5 \u00b1 1", "5 out of 6"),
    *("at least 5", "more than 5", "fewer than 5", "< 5", "\u2265 5", "not 5", "up to 5"),
    *("5:30", "12:05:00", "12/25/2020", "2020-12-25", "3:1", "1.5.2", "127.0.0.1"),
    *("5^x", "2^3^2", "2^3 + 1", "2^{9999}", "0^-3", "10^{n}", "2^{n+1}", "(1 + 2)^2", "99^{300}"),
    *("1_23", "1_2345", "101_2", "101_{2}", "x_5", "5; 6", "5. 6", "5 (or 6)", "5 apples; 6 pears"),
    *("\\sqrt{5}", "\\sqrt5", "\u221a5", "5\\sqrt{5}", "5\u221a2", "sqrt(5)", "\\log 5"),
    *("5\\pi", "5\u03c0", "5 pi", "5 + \u03c0", "5 + \\pi", "\\pi + 5", "2 \\cdot \\pi", "5/\\pi"),
    *("x + 5", "5 + x", "x - 5", "5 - x", "5*n", "5x + 5", "n\u00b75", "\\frac{5}{x}"),
    *("5*6", "5 \\times 6", "3\\times5", "5\\cdot6", "5 \u00d7 6", "5 x 6", "5 + 5", "5-5"),
    *("1/2/3", "\\frac"),
    *("1/0", "0/0", "2 1/0", "\\frac{1}{0}", "1,00,00", "1,0000", "1234,567", "1,049,5"),
    *("5 hours and 30 minutes", "5 feet 6 inches", "from 5 to 6", "x = y", "5 = x"),
    *(
        "one or two",
        "one two",
        "five thousand hundred",
        "twenty-first",
        "the third",
        "at least two",
    ),
    "9" * (MAX_DIGITS + 1),
)


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_states_no_single_number_reads_as_none(text: str) -> None:
    assert read_number(text) is None
    assert parse_number(text) is None
    assert read_number(f"${text}$") is None


JOINTS = (" or ", " and ", " to ", " - ", ", ", " + ", " * ", " x ", " times ", " out of ")


@given(a=st.integers(0, 10**6), b=st.integers(0, 10**6), joint=st.sampled_from(JOINTS))
def test_two_different_numbers_are_none_however_they_are_joined(a: int, b: int, joint: str) -> None:
    if a != b:
        assert read_number(f"{a}{joint}{b}") is None
        assert read_number(f"It is {a}{joint}{b}") is None


ALPHABET = "0123456789 ,.'/%$-+()x^*ek{}=\\\u00bd\u00d7\u00b2\u2212"
ANY_TEXT = st.one_of(st.text(ALPHABET, max_size=14), st.text(max_size=30))


@given(text=ANY_TEXT)
def test_any_text_is_read_or_not_and_a_value_is_never_a_float(text: str) -> None:
    for number in (read_number(text), read_number(text, anywhere=False), parse_number(text)):
        assert number is None or isinstance(number.value, int | Fraction)


@given(text=ANY_TEXT)
def test_a_text_that_is_a_number_reads_as_it_and_its_own_text_says_the_same(text: str) -> None:
    number = parse_number(text)
    if number is None:
        return
    read = read_number(text, anywhere=False)
    assert read is not None and read.value == number.value
    again = parse_number(number.text)
    assert again is not None
    assert (again.value, again.is_percent) == (number.value, number.is_percent)


def test_the_longest_number_that_is_read_keeps_every_digit() -> None:
    longest = "7" * MAX_DIGITS
    assert parse_number(longest) == Number(value=int(longest), is_percent=False, text=longest)
    assert value_of(f"${longest}.5") == Fraction(f"{longest}.5")


@given(
    unit=st.text(ALPHABET, min_size=1, max_size=6),
    start=st.sampled_from(["", "1", "1,", "x = ", "- "]),
)
def test_no_text_however_repetitive_takes_a_second(unit: str, start: str) -> None:
    text = (start + unit * 4_000)[:4_000]
    started = time.process_time()
    read_number(text)
    parse_number(text)
    assert time.process_time() - started < 1.0
