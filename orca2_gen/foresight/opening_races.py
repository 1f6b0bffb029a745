"""The cells of races that have not begun, when nothing is known of their strategies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from orca2_gen.foresight.course import blocks_to_come
from orca2_gen.foresight.leads import SCALES
from orca2_gen.foresight.races import RACES_AT_ONCE
from orca2_gen.selection.blocks import Group, Rule
from orca2_gen.selection.race import Floats, start

LEVELS = (0.2, 0.8)
"""Between these lies the mean accuracy of a group."""
SHARED = 0.5
"""Share of the answers that are right or wrong by their problem alone: strategies of one model
solve mostly the same problems."""


def opening_cells(
    groups: Sequence[Group],
    rule: Rule,
    mean_tokens: Mapping[str, float],
    rng: np.random.Generator,
    num: int,
) -> list[Counter[str]]:
    """Strategy -> answers that are scored, in so many draws of what the strategies can do.

    Each draw plays the races of up to RACES_AT_ONCE groups, and counts the others as they ran.

    Args:
        groups: the selection groups.
        rule: the run's.
        mean_tokens: strategy -> mean length of its answers.
        rng: source of the draws.
        num: draws.
    """
    raced = [group for group in groups if rule.of(group).is_race and len(rule.strategies) > 1]
    whole = [group for group in groups if rule.needs_scores and not rule.of(group).is_race]
    scored = {name: sum(_num_problems(group, rule) for group in whole) for name in rule.strategies}
    return [Counter(scored) + _raced(raced, rule, mean_tokens, rng) for _ in range(num)]


def _num_problems(group: Group, rule: Rule) -> int:
    return min(group.num_problems, rule.scored_problems)


def _raced(
    groups: Sequence[Group],
    rule: Rule,
    mean_tokens: Mapping[str, float],
    rng: np.random.Generator,
) -> Counter[str]:
    chosen = [groups[place] for place in rng.permutation(len(groups))[:RACES_AT_ONCE]]
    cells: Counter[str] = Counter()
    for group in chosen:
        scores_of = _scores(rule.strategies, rng)
        first = start(rule.strategies)
        for size, names in blocks_to_come(group, rule.of(group), first, scores_of, mean_tokens):
            cells.update(dict.fromkeys(names, size))
    played = sum(_num_problems(group, rule) for group in chosen)
    share = sum(_num_problems(group, rule) for group in groups) / max(1, played)
    return Counter({name: round(number * share) for name, number in cells.items()})


def _scores(
    strategies: tuple[str, ...], rng: np.random.Generator
) -> Callable[[tuple[str, ...], int], Floats]:
    """Draws scores of a group whose strategies differ by what one of SCALES says."""
    leads = rng.choice(SCALES) * rng.standard_normal(len(strategies))
    accuracies = np.clip(rng.uniform(*LEVELS) + leads - leads.mean(), 0.01, 0.99)
    by_name = dict(zip(strategies, accuracies, strict=True))

    def scores_of(names: tuple[str, ...], size: int) -> Floats:
        own = rng.random((len(names), size))
        luck = np.where(rng.random((len(names), size)) < SHARED, rng.random(size), own)
        accuracy = np.array([by_name[name] for name in names])
        return (luck < accuracy[:, None]).astype(np.float64)

    return scores_of
