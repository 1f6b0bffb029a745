"""A rule of races for tests."""

from __future__ import annotations

from orca2_gen.selection.blocks import Rule

RULE = Rule(
    policy="student_best",
    strategies=("a", "b", "c"),
    method="race",
    delta=0.05,
    scored_problems=200,
    block_size=8,
    open_requests=0,
    indifference=0.0,
    none_solved="a",
    cautious_arm=True,
    run_seed=7,
)
