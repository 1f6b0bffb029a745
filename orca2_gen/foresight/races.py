"""Futures of races, drawn from the scores that are committed.

A future draws the accuracy of each strategy (leads.py), draws the problems to come from those that
were seen, some of them flipped to that accuracy, and plays the race on (selection/race.py) until it
is decided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orca2_gen.foresight.amounts import Races
from orca2_gen.foresight.course import blocks_to_come, terms_of
from orca2_gen.foresight.leads import Leads, Spread, no_leads, spread_of
from orca2_gen.records import StudentScore
from orca2_gen.run_directory.arrow_files import read_table
from orca2_gen.run_directory.units import Receipt
from orca2_gen.selection.blocks import (
    Group,
    Rule,
    most_blocks,
    num_in_block,
    permutation,
    survivors_of,
)
from orca2_gen.selection.race import Floats, Standing, Terms, advance, start
from orca2_gen.strategies import CAUTIOUS

RACES_AT_ONCE = 16
"""Races that one future plays on, drawn among those that are undecided: driver and engines go on
meanwhile."""
BORROWED = 4
"""Problems of other races among those that a future draws from."""
Cells = Counter[str]
"""Strategy -> answers under it."""
Block = Mapping[str, tuple[int, float]]
"""Strategy -> answers of a block, and as how many of all groups' they count by their tokens."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Future:
    """How some of the undecided races may go on."""

    share: float
    """Those races over all that are undecided."""
    races: list[list[Block]]
    """For each race its blocks to come."""


@dataclass(kw_only=True, slots=True, eq=False)
class _Race:
    """What is known of one group's race."""

    group: Group
    rule: Rule
    standing: Standing
    values: Floats
    """[S, P] scores of the strategies still in."""
    first_values: Floats
    """[all strategies, P] scores of its first block."""
    leads: Leads
    """Those in all of its blocks."""
    tokens: Counter[str] = field(default_factory=Counter)
    """Strategy -> tokens of its answers so far."""
    cells: Cells = field(default_factory=Counter)
    num_blocks: int = 0
    is_decided: bool = False

    @property
    def num_problems(self) -> int:
        return len(permutation(self.group, self.rule))

    @property
    def terms(self) -> Terms:
        return terms_of(self.group, self.rule)


class RaceFutures:
    """The races of a stage, as far as they have come, and how they may go on."""

    def __init__(self, races: Races) -> None:
        self._run_dir = races.run_dir
        self._longest: list[int] = []
        self._cautious = races.rule.cautious_arm
        self._races = {group.name: _race_of(group, races.rule.of(group)) for group in races.groups}

    def add(self, receipt: Receipt) -> Cells:
        """The answers of a committed block, which is taken in; those of a race come in order.

        A block that cannot be read counts as one in which all strategies do alike.
        """
        race = self._races[receipt.group]
        names, scores, tokens = self._read(receipt)
        cells: Cells = Counter(names.tolist())
        race.cells.update(cells)
        for name in cells:
            race.tokens[name] += int(tokens[names == name].sum())
        race.num_blocks += 1
        self._longest.append(int(tokens.max(initial=0)))
        if race.rule.is_race:
            _follow(race, receipt, names, scores)
        else:
            race.is_decided = race.num_blocks == most_blocks(race.group, race.rule)
        return cells

    def _read(self, receipt: Receipt) -> tuple[NDArray[Any], Floats, NDArray[np.int64]]:
        """Strategy, score and tokens of each answer of a block; none if it cannot be read."""
        try:
            table = read_table(self._run_dir, receipt.accepted, StudentScore)
        except (OSError, ValueError):  # `orca2 verify` says what is wrong with it
            return np.array([], dtype=object), np.array([]), np.array([], dtype=np.int64)
        names = np.array(table.column("strategy").to_pylist(), dtype=object)
        scores = np.nan_to_num(table.column("score").to_numpy())
        return names, scores, table.column("num_completion_tokens").to_numpy()

    def begin(self, group: str, scores: Sequence[StudentScore]) -> None:
        """Takes in answers to some problems of a group whose race has no block yet.

        Args:
            group: the group.
            scores: for each of the problems one under every strategy.
        """
        race = self._races[group]
        by_name = {
            name: [score for score in scores if score.strategy == name]
            for name in (*race.rule.strategies, CAUTIOUS)
        }
        for name, own in by_name.items():
            race.cells[name] += len(own)
            race.tokens[name] += sum(score.num_completion_tokens for score in own)
        values = np.nan_to_num([[s.score for s in by_name[name]] for name in race.rule.strategies])
        if race.rule.is_race and values.size:
            race.first_values = race.values = values
            race.leads.add(range(len(values)), values)

    @property
    def longest_tokens(self) -> float:
        """The mean length of a block's longest answer."""
        return sum(self._longest) / max(1, len(self._longest))

    def futures(self, rng: np.random.Generator, num: int) -> list[Future]:
        """Some futures; none while no race has a block."""
        seen = [race for race in self._races.values() if race.first_values.shape[1]]
        undecided = [race for race in self._races.values() if not race.is_decided]
        if not seen and any(race.rule.is_race for race in undecided):
            return []
        spread = spread_of([race.leads for race in seen]) if seen else None
        mean = {name: self._mean_tokens(name) for name in self._names}
        return [self._drawn(undecided, seen, spread, mean, rng) for _ in range(num)]

    def _drawn(
        self,
        undecided: Sequence[_Race],
        seen: Sequence[_Race],
        spread: Spread | None,
        mean: Mapping[str, float],
        rng: np.random.Generator,
    ) -> Future:
        places = sorted(rng.permutation(len(undecided))[:RACES_AT_ONCE])
        races = [undecided[place] for place in places]
        return Future(
            share=len(places) / max(1, len(undecided)),
            races=[
                [
                    self._weighed(race, num, names, mean)
                    for num, names in self._future(race, seen, spread, mean, rng)
                ]
                for race in races
            ],
        )

    def _weighed(
        self, race: _Race, num: int, names: Sequence[str], mean: Mapping[str, float]
    ) -> Block:
        """A block of so many problems."""
        weights = {
            name: race.tokens[name] / race.cells[name] / mean[name]
            for name in names
            if race.cells[name] and mean[name]
        }
        every = (*names, CAUTIOUS) if self._cautious else names
        return {name: (num, num * weights.get(name, 1.0)) for name in every}

    @property
    def _names(self) -> set[str]:
        return {name for race in self._races.values() for name in (*race.rule.strategies, CAUTIOUS)}

    def _mean_tokens(self, name: str) -> float:
        cells = sum(race.cells[name] for race in self._races.values())
        return sum(race.tokens[name] for race in self._races.values()) / max(1, cells)

    def _future(
        self,
        race: _Race,
        seen: Sequence[_Race],
        spread: Spread | None,
        mean: Mapping[str, float],
        rng: np.random.Generator,
    ) -> list[tuple[int, tuple[str, ...]]]:
        """(problems, strategies) of each block until the race is decided."""
        if not race.rule.is_race:
            left = race.num_problems - race.num_blocks * race.rule.block_size
            return [(max(0, left), race.rule.strategies)]
        names = race.standing.names
        places = [race.rule.strategies.index(name) for name in names]
        lenders = [seen[int(rng.integers(len(seen)))] for _ in range(BORROWED)]
        lent = [other.first_values[places][:, [_any(other, rng)]] for other in lenders]
        own = race.values if race.values.shape[1] else lenders[0].first_values
        pool = np.concatenate([own, *lent], axis=1)
        assert spread is not None  # a race is only drawn once one is seen
        accuracy = spread.accuracies(race.leads, places, float(own.mean()), rng)

        def scores_of(left: tuple[str, ...], size: int) -> Floats:
            rows = [names.index(name) for name in left]
            own = pool[rows]
            drawn = own[:, rng.integers(own.shape[1], size=size)]
            return _flipped(drawn, own, accuracy[rows], rng)

        return blocks_to_come(race.group, race.rule, race.standing, scores_of, mean)


def _any(race: _Race, rng: np.random.Generator) -> int:
    return int(rng.integers(race.first_values.shape[1]))


def _flipped(drawn: Floats, pool: Floats, accuracy: Floats, rng: np.random.Generator) -> Floats:
    """[S, P] scores drawn from a pool, some of them flipped so that their mean is the accuracy."""
    mean = pool.mean(axis=1)
    up = np.maximum(0.0, accuracy - mean) / np.maximum(1e-9, 1.0 - mean)
    down = np.maximum(0.0, mean - accuracy) / np.maximum(1e-9, mean)
    chance = rng.random(drawn.shape)
    return np.where(chance < up[:, None], 1.0, np.where(chance < down[:, None], 0.0, drawn))


def _race_of(group: Group, rule: Rule) -> _Race:
    num = len(rule.strategies)
    is_decided = rule.is_race and num == 1
    nothing = np.zeros((num, 0))
    return _Race(
        group=group,
        rule=rule,
        standing=start(rule.strategies),
        values=nothing,
        first_values=nothing,
        leads=no_leads(num),
        is_decided=is_decided,
    )


def _follow(race: _Race, receipt: Receipt, names: NDArray[Any], scores: Floats) -> None:
    """Moves a race on by a committed block with these strategies and scores."""
    size = min(
        num_in_block(race.group, race.rule, len(race.standing.names)),
        race.num_problems - race.standing.num_seen,
    )
    values = np.zeros((len(race.standing.names), size))
    for row, name in enumerate(race.standing.names):
        found = scores[names == name][:size]
        values[row, : len(found)] = found
    if not race.standing.num_seen:
        race.first_values = values
    places = [race.rule.strategies.index(name) for name in race.standing.names]
    race.leads.add(places, values)
    left = survivors_of(receipt, race.rule)
    race.is_decided = len(left) == 1 or race.standing.num_seen + size >= race.num_problems
    if not race.is_decided:
        race.values = np.concatenate([race.values, values], axis=1)
        race.standing, race.values = _after(race.standing, race.values, values, race.terms)


def _after(
    standing: Standing, all_values: Floats, values: Floats, terms: Terms
) -> tuple[Standing, Floats]:
    """The Standing after a block, and the rows of `all_values` of the strategies still in."""
    after = advance(standing, values, terms)
    return after, all_values[[standing.names.index(name) for name in after.names]]
