"""The seconds of races on engines that share their tokens among them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orca2_gen.foresight.races import Block

MOST_DONE = 0.9
"""Share of the open blocks that may be done at most, where engines say that they did more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """What engines do together."""

    tokens_per_second: float
    sequences: float
    """Answers that they work on at once; inf where there were never enough to tell."""
    longest_seconds: float
    """Seconds of the longest answer of a block."""

    def shared(self, share: float) -> Pace:
        """The pace of a share of the engines."""
        return replace(
            self,
            tokens_per_second=self.tokens_per_second * share,
            sequences=self.sequences * share,
        )


def seconds_of(races: Sequence[Sequence[tuple[float, float]]], pace: Pace, done: float) -> float:
    """The seconds of races, the first of which get what room there is.

    Args:
        races: for each race the blocks to come, each with its answers and its tokens.
        pace: the engines'.
        done: tokens of the open blocks that are there already; some of them may be of no use, as
            those ahead of a race that are dropped, and those of an engine that died.
    """
    left = [deque(blocks) for blocks in races if blocks]
    seconds = 0.0
    while left:
        running, room = 1, pace.sequences - left[0][0][0]
        while running < len(left) and room > 0:
            room -= left[running][0][0]
            running += 1
        tokens = sum(blocks.popleft()[1] for blocks in left[:running])
        at_speed = (tokens - min(done, MOST_DONE * tokens)) / pace.tokens_per_second
        done = 0.0  # what is there of later blocks may be dropped
        # While others wait, engines have something to do until the longest answer is there.
        is_last = running == len(left)
        seconds += max(at_speed, pace.longest_seconds) if is_last else at_speed
        left = [blocks for blocks in left if blocks]
    return seconds


def block_of(
    block: Block, tokens: Mapping[str, float], mean: float, length: float
) -> tuple[float, float]:
    """The answers of a block, and their tokens; `length` is of answers to come over others."""
    made = sum(weighted * tokens.get(name, mean) for name, (_, weighted) in block.items())
    return sum(num for num, _ in block.values()), made * length
