"""The course of a race whose scores somebody draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from orca2_gen.selection.blocks import Group, Rule, num_in_block, permutation
from orca2_gen.selection.race import Floats, Standing, Terms, advance, nearly_best


def terms_of(group: Group, rule: Rule) -> Terms:
    """The Terms of a group's race."""
    return Terms(
        num_problems=len(permutation(group, rule)),
        num_strategies=len(rule.strategies),
        delta=rule.delta,
        indifference=rule.indifference,
    )


def blocks_to_come(
    group: Group,
    rule: Rule,
    standing: Standing,
    scores_of: Callable[[tuple[str, ...], int], Floats],
    mean_tokens: Mapping[str, float],
) -> list[tuple[int, tuple[str, ...]]]:
    """(problems, strategies) of each block until a race is decided.

    Args:
        group: the race's.
        rule: the group's.
        standing: the race so far.
        scores_of: gives [S, P] scores of these strategies on so many further problems.
        mean_tokens: strategy -> mean length of its answers.
    """
    terms = terms_of(group, rule)
    blocks = []
    while True:
        size = num_in_block(group, rule, len(standing.names))
        size = min(size, terms.num_problems - standing.num_seen)
        blocks.append((size, standing.names))
        if standing.num_seen + size >= terms.num_problems:
            return blocks
        standing = advance(standing, scores_of(standing.names, size), terms)
        tokens = np.array([mean_tokens[name] for name in standing.names])
        if len(standing.names) == 1 or nearly_best(standing, tokens) is not None:
            return blocks
