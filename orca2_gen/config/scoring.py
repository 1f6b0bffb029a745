"""How strategies are scored: the budgets of an answer and of its forced ending."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from orca2_gen.config.section import Section


class ScoringConfig(Section):
    """Scoring asks the student every scored problem under every strategy, greedily."""

    max_tokens: int = Field(512, ge=1)
    """Most tokens of the answer to one call."""
    retry_max_tokens: int | None = Field(None, ge=1)
    """Most tokens of a second attempt at a call that took all of max_tokens, since a thought that
    was cut short is not a wrong answer. If not set, twice max_tokens; equal to max_tokens, there is
    no second attempt."""
    ask_again: Literal["answer", "none"] | None = None
    """Whether an answer that is unparsed or truncated after its second attempt is asked for once
    more: with `"answer"` the model's own text is continued by the opening of the answer's line, and
    what the model writes there decides the cell, in scoring and in evaluation. If not set,
    `"answer"`; in a run that recorded something else, or was started by a version without this key,
    as there."""
    answer_max_tokens: int = Field(32, ge=1)
    """Most tokens of such an ending. It has to hold one line, and 32 are room for a formula, a list
    or a few words before the answer; more would let the model begin to reason again."""

    @property
    def ending_tokens(self) -> int | None:
        """Most tokens of a forced ending; None if none is asked for."""
        return self.answer_max_tokens if self.ask_again == "answer" else None

    @property
    def most_tokens(self) -> int:
        """Most tokens of the answer to one call, a second attempt included."""
        return 2 * self.max_tokens if self.retry_max_tokens is None else self.retry_max_tokens

    @property
    def longest_key(self) -> str:
        """The key of the longest answer."""
        is_longer = self.most_tokens > self.max_tokens
        return "scoring.retry_max_tokens" if is_longer else "scoring.max_tokens"

    @model_validator(mode="after")
    def _retry_is_larger(self) -> ScoringConfig:
        if self.most_tokens < self.max_tokens:
            raise ValueError(
                f"retry_max_tokens is {self.retry_max_tokens}, less than max_tokens, "
                f"{self.max_tokens}; give more, or as many for no second attempt"
            )
        return self
