"""A proof of erasure in one line that a person can read."""

from __future__ import annotations

from orca2_gen.dataset.proof import ErasureProof


def verdict_of(proof: ErasureProof) -> str:
    """What a proof says, in one line.

    Cards hold it, and `orca2 verify` looks for it there: other words for the same proof would be a
    fault of older datasets.
    """
    num, proved = proof.num_examples, proof.num_proved
    if proved == num:
        are = "1 prompt is" if num == 1 else f"All {num:,} prompts are"
        first = "There are no prompts" if not num else f"{are} the cautious message and the user's"
        first += " text, token for token" if num else ""
    else:
        are = "prompt is" if num - proved == 1 else "prompts are"
        first = (
            f"NOT ERASED: {num - proved:,} of {num:,} {are} something else than the cautious "
            "message and the user's text"
        )
    if proof.num_instructed is None or proof.num_quoting is None:
        return f"{first}; nobody looked for the words of instructions in them."
    return f"{first}; {_instructed(proof)}; {_quoting(proof.num_quoting)}."


def _instructed(proof: ErasureProof) -> str:
    num = len(proof.instructions_sha256) + sum(map(len, proof.further_calls_sha256.values()))
    unsought = proof.num_unsought or 0
    among = f"{num - unsought:,} instruction{'' if num - unsought == 1 else 's'}"
    if unsought:
        among += f" ({unsought:,} more {'is' if unsought == 1 else 'are'} too short to look for)"
    if proof.num_instructed:
        hold = "prompt holds" if proof.num_instructed == 1 else "prompts hold"
        return f"NOT ERASED: {proof.num_instructed:,} {hold} words of one of {among}"
    return f"no {proof.quoted_words} words in a row of any of {among} stand in them"


def _quoting(num: int) -> str:
    quoting = "1 answer quotes" if num == 1 else f"{num:,} answers quote"
    return f"{quoting} an instruction"
