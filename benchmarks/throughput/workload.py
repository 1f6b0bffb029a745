"""Sets of problems that no engine has seen, their prompts, and the tokens that a cache can share.

Every pass of a contender takes a set of its own; otherwise its prompts would be in the prefix cache
whole, with nothing left to prefill. The questions are new draws from the microworld; the
instructions are the package's own strategies file, 137 to 175 tokens each with the student's
tokenizer, so each fills whole blocks of 32.
"""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orca2_gen.chat import Chat, encode_prompt
from orca2_gen.microworld.families import draw_unseen, item_id
from orca2_gen.microworld.world import build_world
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.records import Problem
from orca2_gen.strategies import Strategies

TASK_FAMILIES = ("add", "compare", "reverse")
"""Families with enough different questions."""
LONGEST_OVER_MEAN = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One request, in the form that each contender takes."""

    problem_id: str
    strategy: str
    system: str
    user: str
    token_ids: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """One contender's run through one set."""

    seconds: float
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None
    """Tokens found in the cache; None if the contender does not report them."""

    @property
    def completion_tokens_per_second(self) -> float:
        return self.completion_tokens / self.seconds

    def __str__(self) -> str:
        return (
            f"{self.completion_tokens_per_second:.0f} tok/s, {self.requests} requests, "
            f"{self.prompt_tokens} + {self.completion_tokens} tokens, {self.cached_tokens} cached, "
            f"{self.seconds:.2f} s"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Ratios of pairs."""

    median: float
    low: float
    high: float


def draw_sets(sizes: Mapping[str, int], seed: int = 0) -> dict[str, str]:
    """Name -> a JSONL task file of its number of problems; no question occurs twice in them."""
    world, rng = build_world(), random.Random(f"throughput {seed}")
    seen: set[tuple[str, ...]] = set()
    files = {}
    for name, size in sizes.items():
        lines = []
        for index in range(size):
            item = draw_unseen(TASK_FAMILIES[index % len(TASK_FAMILIES)], world, rng, "train", seen)
            seen.add(item_id(item))
            row = {"id": f"{name}-{index:04d}", "question": item.question, "answer": item.target}
            lines.append(json.dumps(row) + "\n")
        files[name] = "".join(lines)
    return files


def build_prompts(
    blocks: Sequence[Sequence[Problem]], strategies: Strategies, chat: Chat, max_tokens: int
) -> list[Prompt]:
    """The prompts of a set in the order of our path: block by block, strategy by strategy in it."""
    prompts = []
    for block in blocks:
        for strategy in strategies.names:
            system = strategies.system_message(strategy)
            for problem in block:
                user = user_text(problem, strategies)
                prompts.append(
                    Prompt(
                        problem_id=problem.problem_id,
                        strategy=strategy,
                        system=system,
                        user=user,
                        token_ids=encode_prompt(chat, prompt_messages(system, user)),
                        max_tokens=max_tokens,
                    )
                )
    return prompts


def with_geometric_lengths(prompts: Sequence[Prompt], mean: int, seed: int) -> list[Prompt]:
    """The same prompts, each with an answer length of its own."""
    lengths = geometric_lengths(len(prompts), mean, seed)
    return [replace(p, max_tokens=length) for p, length in zip(prompts, lengths, strict=True)]


def geometric_lengths(count: int, mean: int, seed: int) -> list[int]:
    """`count` geometric lengths of this mean, none above LONGEST_OVER_MEAN times the mean."""
    rng = random.Random(f"lengths {seed}")
    scale = math.log1p(-1 / mean)
    draws = (1 + int(math.log(1 - rng.random()) / scale) for _ in range(count))
    return [min(length, LONGEST_OVER_MEAN * mean) for length in draws]


def ideal_cached_tokens(
    prompts: Iterable[Sequence[int]], block_size: int, seen: set[Hashable]
) -> int:
    """Prompt tokens that a prefix cache of unlimited size finds.

    `seen` holds the blocks of the cache and receives the new ones. vLLM shares whole blocks, and
    never a prompt's last token, which must be computed. Two requests of the same step already
    share, so every block counts except at its first occurrence.
    """
    cached = 0
    for token_ids in prompts:
        parent: Hashable = None
        for end in range(block_size, len(token_ids) + 1, block_size):
            # A block's tokens and all before them identify it; the hash stands for the latter.
            block = (parent, tuple(token_ids[end - block_size : end]))
            if block in seen and end < len(token_ids):
                cached += block_size
            seen.add(block)
            parent = hash(block)
    return cached


def spread(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Median, least and greatest ratio of the pairs."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return Spread(median=statistics.median(ratios), low=min(ratios), high=max(ratios))


def rates(passes: Sequence[Pass]) -> list[float]:
    return [each.completion_tokens_per_second for each in passes]


def total(passes: Sequence[Pass], name: str) -> Any:
    """The sum of a field over passes; None if one of them lacks it."""
    values = [getattr(each, name) for each in passes]
    return None if None in values else sum(values)
