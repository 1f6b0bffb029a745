from __future__ import annotations

import dataclasses
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.dataset.instruction_search import instruction_search, seen_words, told_texts
from orca2_gen.quoting import QUOTED_WORDS, Run, words_of
from orca2_gen.strategies import Strategies, load_strategies

OWN = load_strategies(None)
SEARCH = instruction_search(OWN)
HIDDEN = ("\u200b", "\u00ad", "\u2060", "\ufeff", "\u034f", "\u3164", "\x00", "\u0336")
own_runs = st.sampled_from([run for runs in SEARCH.told.values() for run in runs])
cases = st.sampled_from([str.upper, str.title, str.capitalize, str])
gaps = st.sampled_from([" ", "\n", ", ", "_", " * ", "-", "\u00a0", "\u3000", ". "])


@st.composite
def written(draw: st.DrawFn, run: Run) -> str:
    """A run as somebody may write it who does not want it to be found."""
    text = ""
    for word in run:
        word = draw(cases)(word)
        if draw(st.booleans()):
            place = draw(st.integers(0, len(word)))
            word = word[:place] + draw(st.sampled_from(HIDDEN)) + word[place:]
        if draw(st.booleans()):
            word = "".join(chr(ord(c) + 0xFEE0) if "!" < c < "~" else c for c in word)
        text += draw(gaps) + word
    return text


@given(data=st.data(), run=own_runs, before=st.text(max_size=20), after=st.text(max_size=20))
def test_a_run_is_found_however_it_is_written(
    data: st.DataObject, run: Run, before: str, after: str
) -> None:
    text = f"{before} {data.draw(written(run))} {after}"
    assert run in SEARCH.runs_in(seen_words(text))
    assert run in SEARCH.runs_hidden_in(text)


@given(run=own_runs, every=st.integers(1, 9))
def test_a_template_that_parts_the_letters_of_a_run_still_writes_it(run: Run, every: int) -> None:
    letters = "".join(run)
    text = " ".join(letters[start : start + every] for start in range(0, len(letters), every))
    assert run in SEARCH.runs_hidden_in(text)


@given(text=st.text(alphabet=st.characters(codec="ascii")))
def test_ascii_words_are_those_of_quoting_with_underscores_and_controls_aside(text: str) -> None:
    plain = "".join(c for c in text.replace("_", " ") if c.isprintable() or c.isspace())
    assert seen_words(text) == words_of(plain)


@given(text=st.text())
def test_the_words_of_a_text_do_not_depend_on_its_unicode_form(text: str) -> None:
    forms = {tuple(seen_words(unicodedata.normalize(form, text))) for form in ("NFC", "NFKD")}
    assert forms == {tuple(seen_words(text))}


@given(cut=st.integers(1, QUOTED_WORDS - 1), run=own_runs)
def test_fewer_words_of_a_long_instruction_are_nothing(cut: int, run: Run) -> None:
    assert not SEARCH.runs_in(run[:cut]) and not SEARCH.runs_hidden_in(" ".join(run[:cut]))


def with_instructions(**texts: str) -> Strategies:
    return dataclasses.replace(OWN, instructions=texts)


@pytest.mark.parametrize(
    ("instruction", "in_template", "in_answer"),
    [
        ("Answer from these lines alone.", True, True),
        ("Think step by step.", True, False),
        ("Explain thoroughly.", True, False),
        ("Verify.", False, False),
        ("Be brief.", False, False),
    ],
)
def test_a_short_instruction_counts_whole_if_it_is_not_everybodys(
    instruction: str, in_template: bool, in_answer: bool
) -> None:
    search = instruction_search(with_instructions(one=instruction))
    text = f"system\n{instruction.upper()}\nuser"
    assert bool(search.runs_hidden_in(text)) == in_template
    assert bool(search.runs_in(seen_words(text))) == in_answer
    assert search.num_unsought == (not in_template)
    last = instruction.rpartition(" ")[0]
    assert not search.runs_hidden_in(f"system\n{last}\nuser")


def test_what_the_cautious_message_says_itself_is_no_instruction() -> None:
    cautious = OWN.cautious_message
    search = instruction_search(with_instructions(one=f"{cautious} Then answer in one short line."))
    assert not search.runs_in(seen_words(cautious)) and not search.runs_hidden_in(cautious)
    assert search.runs_in(seen_words(f"{cautious} Then answer in one short line."))


def test_further_calls_and_texts_of_a_category_are_instructions_too() -> None:
    special = "Draw the whole board first and move the pieces after that."
    further = "Now look at each line again and correct what is wrong."
    strategies = dataclasses.replace(
        OWN,
        special_instructions={("step_by_step", "logic", ""): special},
        further_calls={"step_by_step": ("Go on.", further)},
    )
    search = instruction_search(strategies)
    named = {text: name for name, text in told_texts(strategies).items()}
    assert named[special] == "step_by_step @ logic" and named[further] == "step_by_step, call 3"
    for text in (special, further):
        assert search.runs_in(seen_words(text))
        assert set(search.runs_hidden_in(text).values()) == {named[text]}
    assert search.num_unsought == 1
