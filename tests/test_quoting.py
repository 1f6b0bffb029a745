from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orca2_gen.quoting import (
    FEWEST_WORDS,
    QUOTED_WORDS,
    instruction_runs,
    quotes_instruction,
    repeated_runs,
    unheard,
)

words = st.lists(st.sampled_from(["red", "blue", "green", "grey", "pink"]), min_size=1, max_size=20)


@given(instruction=words, before=words, after=words)
def test_a_text_that_holds_the_whole_instruction_always_quotes_it(
    instruction: list[str], before: list[str], after: list[str]
) -> None:
    assume(len(instruction) >= FEWEST_WORDS)
    text = " ".join([*before, *instruction, *after])
    assert quotes_instruction(text, " ".join(instruction), "")
    assert not quotes_instruction(text, " ".join(instruction), " ".join(instruction))


def test_fewer_words_in_a_row_than_a_quotation_has_are_no_quotation() -> None:
    instruction = "one two three four five six seven eight nine ten"
    assert not quotes_instruction(
        " ".join(instruction.split()[: QUOTED_WORDS - 1]), instruction, ""
    )
    assert quotes_instruction(" ".join(instruction.split()[:QUOTED_WORDS]), instruction, "")
    assert not quotes_instruction("anything at all", "", "")


@pytest.mark.parametrize("said", ["Explain.", "Verify.", "In one sentence."])
def test_a_few_words_that_anybody_says_are_no_quotation(said: str) -> None:
    assert not quotes_instruction(f"I will. {said} The answer is nine.", said, "")
    assert quotes_instruction(
        "I see: answer from these lines alone. Nine.", "Answer from these lines alone.", ""
    )


@given(
    instructions=st.lists(
        st.lists(st.sampled_from("abc"), min_size=FEWEST_WORDS, max_size=12), max_size=4
    ),
    said=st.lists(st.sampled_from("abc"), max_size=30),
)
def test_every_run_of_an_instruction_is_found_wherever_it_stands(
    instructions: list[list[str]], said: list[str]
) -> None:
    expected = set()
    for told in instructions:
        length = min(QUOTED_WORDS, len(told))
        of_told = {tuple(told[n : n + length]) for n in range(len(told) - length + 1)}
        expected |= of_told & {tuple(said[n : n + length]) for n in range(len(said) - length + 1)}
    runs = instruction_runs(" ".join(told) for told in instructions)
    assert repeated_runs(said, runs) == expected
    assert unheard(expected, said) == set() and unheard(expected, []) == expected
