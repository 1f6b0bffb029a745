from __future__ import annotations

import dataclasses

from orca2_gen.dataset.proof import ErasureProof
from orca2_gen.dataset.verdict import verdict_of

WHOLE = ErasureProof(
    num_examples=1491,
    num_proved=1491,
    instructions_sha256=dict.fromkeys("abcdef", ""),
    cautious_message_sha256="",
    tokenizer_digest="",
    quoted_words=8,
    num_unsought=0,
    num_instructed=0,
    num_quoting=0,
    digest="x",
)


def verdict(**changes: object) -> str:
    return verdict_of(dataclasses.replace(WHOLE, **changes))  # type: ignore[arg-type]


def test_a_proof_that_holds_is_told_in_one_line() -> None:
    assert verdict() == (
        "All 1,491 prompts are the cautious message and the user's text, token for token; no 8 "
        "words in a row of any of 6 instructions stand in them; 0 answers quote an instruction."
    )
    assert "(1 more is too short to look for)" in verdict(num_unsought=1)
    assert "of any of 8 instructions" in verdict(further_calls_sha256={"a": ["", ""]})
    assert verdict(num_examples=1, num_proved=1, num_quoting=1).startswith("1 prompt is the")
    assert verdict(num_quoting=1).endswith("1 answer quotes an instruction.")
    assert verdict(num_examples=0, num_proved=0).startswith("There are no prompts; ")


def test_a_proof_that_does_not_hold_says_so_in_capitals() -> None:
    for changes, said in (
        ({"num_proved": 1490}, "1 of 1,491 prompt is something else"),
        ({"num_instructed": 1491}, "1,491 prompts hold words of one of 6 instructions"),
    ):
        assert not dataclasses.replace(WHOLE, **changes).holds  # type: ignore[arg-type]
        assert "NOT ERASED" in verdict(**changes) and said in verdict(**changes)


def test_a_proof_of_an_older_version_claims_nothing_that_it_did_not_look_for() -> None:
    assert verdict_of(WHOLE.as_older()) == (
        "All 1,491 prompts are the cautious message and the user's text, token for token; nobody "
        "looked for the words of instructions in them."
    )
