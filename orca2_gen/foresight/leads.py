"""How much better a strategy does in a group than others, before much is known of it.

Leads in a race's few first problems are mostly chance. So the true leads in a group are taken to be
normal, with a scale that is the group's own and one of a few: in some tasks all strategies do
nearly alike. How many groups have which scale, and what each strategy leads by over all groups, is
learned from all of them (empirical Bayes; Efron and Morris 1975), and what a race has seen itself
counts as far as its number of problems outweighs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orca2_gen.selection.race import Floats

SCALES = np.array([0.01, 0.03, 0.1, 0.3])
"""Standard deviations that the strategies' true leads may have in a group: in some tasks all do
nearly alike, and their races are long."""
USUAL_LEAD = 0.1
"""Standard deviation of a strategy's mean lead over all groups."""
EM_STEPS = 20
LEAST_NOISE = 1e-3
"""Variance of a lead in one problem, at least: with few problems it may be 0 by chance."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Leads:
    """Leads of a group's strategies over the mean of those that were in, problem by problem."""

    sums: Floats
    """[all strategies]"""
    squares: Floats
    """[all strategies] sums of squares."""
    num: NDArray[np.int64]
    """[all strategies] problems scored under each."""

    def add(self, places: Sequence[int], values: Floats) -> None:
        """Takes in a block.

        Args:
            places: places of the strategies still in.
            values: [S, P] their scores.
        """
        leads = values - values.mean(axis=0)
        at = list(places)
        self.sums[at] += leads.sum(axis=1)
        self.squares[at] += (leads**2).sum(axis=1)
        self.num[at] += values.shape[1]


def no_leads(num_strategies: int) -> Leads:
    """The Leads of a group without a block."""
    return Leads(
        sums=np.zeros(num_strategies),
        squares=np.zeros(num_strategies),
        num=np.zeros(num_strategies, dtype=np.int64),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Spread:
    """How the true leads of strategies are spread over groups."""

    mean: Floats
    """[all strategies]"""
    noise: float
    """Variance of a lead in one problem."""
    shares: Floats
    """[SCALES] shares of the groups whose true leads have these scales."""

    def accuracies(
        self, seen: Leads, places: Sequence[int], level: float, rng: np.random.Generator
    ) -> Floats:
        """[S] accuracies of the strategies at these places, drawn given what the race has seen.

        Args:
            seen: the leads that the race has seen.
            places: places of the strategies still in.
            level: their mean accuracy.
            rng: source of the draws.
        """
        weights = _scale_weights(seen, self.mean, self.noise) * self.shares
        variance = rng.choice(SCALES, p=weights / weights.sum()) ** 2
        num = seen.num[places]
        chance = self.noise / np.maximum(1, num)
        trust = np.where(num > 0, variance / (variance + chance), 0.0)
        own = seen.sums[places] / np.maximum(1, num)
        expected = self.mean[places] + trust * (own - self.mean[places])
        error = np.where(num > 0, trust * chance, variance)
        drawn = expected - expected.mean() + np.sqrt(error) * rng.standard_normal(len(places))
        accuracies: Floats = np.clip(level + drawn, 0.01, 0.99)
        return accuracies


def spread_of(groups: Sequence[Leads]) -> Spread:
    """The spread of the leads in these groups, which have the same strategies."""
    num = np.array([leads.num for leads in groups])
    sums = np.array([leads.sums for leads in groups])
    squares = np.array([leads.squares for leads in groups]) - sums**2 / np.maximum(1, num)
    noise = float(squares.sum() / max(1, num.sum())) + LEAST_NOISE
    # A strategy's mean lead over few problems is as much chance as its lead in a race.
    mean = sums.sum(axis=0) / (num.sum(axis=0) + noise / USUAL_LEAD**2)
    weights = np.array([_scale_weights(leads, mean, noise) for leads in groups])
    shares = np.ones(len(SCALES)) / len(SCALES)
    for _ in range(EM_STEPS):
        each = weights * shares
        each /= each.sum(axis=1, keepdims=True)
        # As if one group of each scale had been seen before.
        shares = (each.sum(axis=0) + 1) / (len(groups) + len(SCALES))
    return Spread(mean=mean, noise=noise, shares=shares)


def _scale_weights(leads: Leads, mean: Floats, noise: float) -> Floats:
    """[SCALES] likelihoods of the leads in a group, over the highest."""
    seen = leads.num > 0
    variance = SCALES[:, None] ** 2 + noise / leads.num[seen]
    off = leads.sums[seen] / leads.num[seen] - mean[seen]
    logs = -0.5 * (off**2 / variance + np.log(variance)).sum(axis=1)
    weights: Floats = np.exp(logs - logs.max())
    return weights
