"""The paired betting race: which strategies can still be the winner of the full grid.

All strategies that are still in are scored on the same problems, in a random order, without
replacement. For two of them, D_k = x_ik - x_jk in [-1, 1]. If j were no worse than i over all N
problems (up to the indifference eps), the D that are left would have a mean of at most
m_k = (N eps - sum of D so far) / (N - k + 1), so whoever bets on D_k being larger than m_k cannot
get rich: capital prod (1 + lambda_k (D_k - m_k)) is a nonnegative supermartingale, and so is the
mean over several bets. It reaches (S - 1) / delta with a chance of at most delta / (S - 1) (Ville's
inequality), whenever one looks. So j falls when some i's capital against it has reached that, and
the grid's winner falls with a chance of at most delta, whatever the scores are. Where m_k < -1 the
problems that are left cannot make up for i's lead, and j falls at no risk.
Betting: Waudby-Smith and Ramdas, arXiv 2010.09686.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Shapes below: S strategies still in, P problems of a block, B bets.

BETS = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.75])
"""Highest shares of the capital at stake: less than 1, so that none is ever lost whole."""
ROUNDING = 1e-9
"""Means are ratios of small integers: a margin this far below 1/N only undoes their rounding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """The terms of a race."""

    num_problems: int
    """N, the problems of the full grid."""
    num_strategies: int
    """Strategies at the start."""
    delta: float
    """Highest chance that the grid's winner falls."""
    indifference: float
    """Strategies within this of the highest mean tie."""

    @property
    def capital_to_reach(self) -> float:
        # With an indifference the same delta also pays for the tests behind `no_better`.
        tests = (self.num_strategies - 1) * (2 if self.indifference else 1)
        return tests / self.delta


@dataclass(frozen=True, kw_only=True, slots=True)
class Fall:
    """A strategy that is out, and why."""

    strategy: str
    to: str
    """The strategy whose lead it fell to."""
    block: int
    by: str
    """`bet`, or `certain` where the problems left could not make up for the lead."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Standing:
    """A race after some blocks. [i, j] is about i's lead over j."""

    names: tuple[str, ...]
    """The strategies still in."""
    falls: tuple[Fall, ...]
    num_blocks: int
    num_seen: int
    """Problems scored so far."""
    leads: Floats
    """[S, S] sums of D."""
    capitals: Floats
    """[2, S, S, B] against "j is worse than i by no more than eps" and "j is better by eps"."""
    no_better: NDArray[np.bool_]
    """[S, S] whether it is shown that j is not better than i by eps or more."""


def start(names: tuple[str, ...]) -> Standing:
    """The Standing before the first block."""
    num = len(names)
    return Standing(
        names=names,
        falls=(),
        num_blocks=0,
        num_seen=0,
        leads=np.zeros((num, num)),
        capitals=np.ones((2, num, num, len(BETS))),
        no_better=np.zeros((num, num), dtype=bool),
    )


def advance(standing: Standing, values: Floats, terms: Terms) -> Standing:
    """The Standing after one more block.

    Args:
        standing: the race so far.
        values: [S, P] scores in [0, 1], strategies as in `standing.names`, problems in the order of
            the race. NaN counts 0, and a problem without scores counts 0 for all.
        terms: the race's.
    """
    assert values.shape[0] == len(standing.names)
    values = np.nan_to_num(values, nan=0.0)
    gains = values[:, None, :] - values[None, :, :]
    worse, certain, capitals_worse = _rejections(standing, gains, terms, terms.indifference, 0)
    capitals, no_better = np.stack([capitals_worse, capitals_worse]), np.isfinite(worse)
    if terms.indifference:
        better, _, capitals_better = _rejections(standing, gains, terms, -terms.indifference, 1)
        capitals, no_better = np.stack([capitals_worse, capitals_better]), np.isfinite(better)
    falls = _falls(standing, worse, certain)
    out = {fall.strategy for fall in falls}
    kept = np.array([i for i, name in enumerate(standing.names) if name not in out])
    pairs = np.ix_(kept, kept)
    return Standing(
        names=tuple(standing.names[i] for i in kept),
        falls=standing.falls + falls,
        num_blocks=standing.num_blocks + 1,
        num_seen=standing.num_seen + values.shape[1],
        leads=(standing.leads + gains.sum(axis=2))[pairs],
        capitals=capitals[:, pairs[0], pairs[1]],
        no_better=(standing.no_better | no_better)[pairs],
    )


def nearly_best(standing: Standing, mean_tokens: Floats) -> str | None:
    """The cheapest strategy still in, once no other can be better by the indifference or more."""
    cheapest = int(np.argmin(mean_tokens))
    others = np.arange(len(standing.names)) != cheapest
    return standing.names[cheapest] if standing.no_better[cheapest, others].all() else None


def _rejections(
    standing: Standing, gains: Floats, terms: Terms, margin: float, test: int
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """The rejections of "i leads j by no more than margin" in a block.

    [S, S] the problem of the block (from 0; inf if none) at which it is rejected, [S, S] whether
    that is certain, and [S, S, B] the capitals after the block.
    """
    num_pairs, num_problems = gains.shape[0], gains.shape[2]
    seen = standing.num_seen + np.arange(num_problems)
    before = standing.leads[:, :, None] + np.cumsum(gains, axis=2) - gains
    left = terms.num_problems - seen
    mean_of_rest = (terms.num_problems * margin - before) / left
    can_bet = mean_of_rest > -1.0 + ROUNDING
    shares = np.where(can_bet, 1.0 / np.where(can_bet, 1.0 + mean_of_rest, 1.0), 0.0)
    factors = 1.0 + BETS * (shares * (gains - mean_of_rest))[..., None]
    with np.errstate(over="ignore"):  # infinitely rich is rich enough
        capitals = standing.capitals[test][:, :, None, :] * np.cumprod(factors, axis=2)
        is_rich = capitals.mean(axis=3) >= terms.capital_to_reach
    ahead = before + gains - terms.num_problems * margin
    is_certain = (left > 1) & (ahead > left - 1 + ROUNDING)
    rejected = is_rich | is_certain
    first = np.where(rejected.any(axis=2), rejected.argmax(axis=2), np.inf)
    own = np.eye(num_pairs, dtype=bool)
    first[own] = np.inf
    at = np.minimum(first, num_problems - 1).astype(int)[:, :, None]
    certain = np.take_along_axis(is_certain, at, axis=2)[:, :, 0]
    return first, certain, capitals[:, :, -1, :]


def _falls(standing: Standing, first: Floats, certain: NDArray[np.bool_]) -> tuple[Fall, ...]:
    """The strategies that fall in a block, the first to fall first; one always stays."""
    found = sorted(
        (float(first[i, j]), i, j)
        for i in range(len(standing.names))
        for j in range(len(standing.names))
        if np.isfinite(first[i, j])
    )
    out: dict[int, Fall] = {}
    for _, i, j in found:
        # A fallen strategy takes no other along: two that reject each other do not both fall.
        if i not in out and j not in out:
            out[j] = Fall(
                strategy=standing.names[j],
                to=standing.names[i],
                block=standing.num_blocks,
                by="certain" if certain[i, j] else "bet",
            )
    return tuple(out.values())
