from __future__ import annotations

import inspect
import re
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca2_gen.mistakes.toml_faults import toml_fault

FAULTS = {
    "a": "line 1, the last: expected key = value",
    "a = 1\nb = sums\n": "line 2, column 5: expected a value",
    "[a]\nb = 1\n[a]\n": "line 3, column 3: this section stands there a second time",
    "a = 1\na = 2": "line 2, the last: this name is given a second time",
    "a = { b = 1, b = 2 }": "line 1, column 19: this name is given a second time",
    "a = { b = 1 }\na.c = 2\n": "line 2, column 8: this adds to a list or table",
    "a = [1]\n[[a]]\n": "line 2, column 4: this adds to a list or table",
    "a = [1 2]": "line 1, column 8: a list has no closing ], or lacks a comma",
    "a = { b = 1": "line 1, the last: a table has no closing }",
    "[a\nb = 1": "line 1, column 3: the heading of a section has no closing ]",
    "[[a\nb = 1": "line 1, column 4: the heading of a section in a list has no closing ]]",
    'a = "x\nb = 1\n': "line 1, column 7: text has no closing quote on its line",
    "a = 'x\nb = 'y'\n": "line 1, column 7: text has no closing quote on its line",
    "a = '''x": "line 1, the last: text has no closing quote",
    'a = "C:\\Users"': "line 1, column 10: expected hexadecimal digits after \\u",
    'a = "C:\\data"': "line 1, column 10: a backslash begins no known escape; double it",
    'a = "\x01"': "line 1, column 6: a control character stands in the text",
    "a = 'it's'": "line 1, column 9: more follows the value; put text in quotes",
    f"a = {'[' * 5000}": "it is nested too deeply",
    f"a = {'9' * 5000}": "a number has too many digits",
}


def fault(body: bytes) -> str:
    """What is wrong with bytes that are not TOML; empty if nothing is."""
    try:
        tomllib.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return toml_fault(error, body)
    return ""


@pytest.mark.parametrize(("text", "words"), FAULTS.items(), ids=lambda text: repr(text[:30]))
def test_a_fault_says_where_it_is_and_what_to_do(text: str, words: str) -> None:
    assert fault(text.encode()).startswith(words)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'a = 1\nb = "\xe9"', "line 2 holds a byte that is not UTF-8; save the file as UTF-8"),
        ("a = 1".encode("utf-16"), "it is encoded as UTF-16; save it as UTF-8"),
    ],
)
def test_another_encoding_is_named(body: bytes, words: str) -> None:
    assert fault(body) == words


def test_every_message_of_tomllib_has_words_of_its_own() -> None:
    source = inspect.getsource(__import__("tomllib._parser", fromlist=["_parser"]))
    found = re.findall(r"suffixed_err\(\s*src,\s*\w+,\s*f?\"((?:[^\"\\]|\\.)*)\"", source)
    messages = [message.encode().decode("unicode_escape") for message in found]
    assert len(messages) > 15
    for message in messages:
        shown = message.replace("{expect!r}", repr("'")).replace("{char!r}", repr("\n"))
        error = tomllib.TOMLDecodeError(f"{shown} (at line 3, column 4)")
        assert not toml_fault(error, b"").endswith("expected TOML"), message


@settings(max_examples=300, deadline=None)
@given(
    st.text(
        alphabet=st.sampled_from("ab=[]{}\"'\\\n.,#1-:T \tu\r\x01\u00e9"), min_size=1, max_size=30
    )
)
def test_no_fault_quotes_the_file_or_python(text: str) -> None:
    found = fault(text.encode())
    assert "\n" not in found and "codec" not in found and "namespace" not in found
    assert not found.endswith("expected TOML")
