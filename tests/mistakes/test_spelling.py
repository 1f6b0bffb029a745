from __future__ import annotations

from orca2_gen.mistakes.spelling import hint, nearest


def test_a_spelling_is_suggested_only_if_it_is_near() -> None:
    assert nearest("block_sise", ["block_size", "delta"]) == "block_size"
    assert nearest("Block_Size", ["block_size", "delta"]) == "block_size"
    assert nearest("gpus", ["block_size", "delta"]) == ""


def test_an_unknown_name_gets_the_nearest_or_else_all() -> None:
    known = ["block_size", "delta"]
    assert hint("blok_size", known) == "did you mean 'block_size'?"
    assert hint("gpus", known) == "expected block_size, delta"
