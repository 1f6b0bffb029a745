"""A strategy's calls for one problem, one after another -> its answer.

Most strategies make one call. A strategy of several calls continues the same conversation: the
model's text stays in it, and the user says the next of the strategy's `further_calls` (first
extract, then answer from the extract). Grading and training take all of the model's texts together
(`compose`): a student is not called twice, it has to write both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from orca2_gen.chat import (
    Chat,
    ControlTokenError,
    encode_prompt,
    has_stray_marker,
    resumable_ids,
    split_thought,
)
from orca2_gen.engine import Engine, Request
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.records import Completion, Message, Problem
from orca2_gen.strategies import Strategies

CALLS_VERSION = 1
"""Raise it with every change to what is asked or how it is put together: part of the stage keys."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Tokens that an answer may take."""

    max_tokens: int
    """Tokens of one call."""
    max_model_len: int
    """Tokens of a prompt and its completion; a further call that does not fit is not made."""
    retry_max_tokens: int | None = None
    """Tokens of a second attempt at a call that used up max_tokens; None makes none."""
    thinking_tokens: int | None = None
    """Tokens of a thought, after which it is closed and the answer asked for; None sets no limit.
    """
    answer_max_tokens: int | None = None
    """Tokens of the forced ending of an answer that never came (endings.py); None asks for none."""

    @property
    def most_tokens(self) -> int:
        """Tokens of one call, its second attempt included."""
        return max(self.max_tokens, self.retry_max_tokens or 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """The sampling parameters of an attempt."""

    temperature: float = 0.0
    top_p: float = 1.0
    run_seed: int = 0


GREEDY = Sampling()


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The result of asking one problem under one strategy."""

    completion: Completion
    """All calls as one."""
    completions: tuple[Completion, ...]
    """The completions as a record keeps them: empty if there is only this one."""
    prompt_token_ids: tuple[int, ...]
    """The prompt of the last call that was made."""
    has_stray_marker: bool = False
    """Whether a text or thought held the model's own markers, which are left out of it."""

    @property
    def last(self) -> Completion:
        """The last completion of the last call that was made."""
        return (self.completions or (self.completion,))[-1]


async def ask(
    problem: Problem,
    strategy: str,
    *,
    role: str,
    engine: Engine,
    chat: Chat,
    strategies: Strategies,
    budget: Budget,
    attempt: int = 0,
    sampling: Sampling = GREEDY,
) -> Answer:
    """The Answer to a problem under a strategy, or under the `cautious` or `empty` message.

    A call that does not finish by itself ends the conversation.
    """
    system = strategies.system_message(strategy, problem)
    messages = prompt_messages(system, user_text(problem, strategies))
    request = Request(
        problem_id=problem.problem_id,
        role=role,
        strategy=strategy,
        call=0,
        attempt=attempt,
        prompt_token_ids=encode_prompt(chat, messages),
        max_tokens=budget.max_tokens,
        **dataclasses.asdict(sampling),
    )
    made: list[Completion] = []
    fault, has_stray = "", False
    for said_next in (*strategies.further_calls.get(strategy, ()), None):
        made += await _generate(engine, chat, request, budget)
        has_stray |= has_stray_marker(chat, request.prompt_token_ids, made[-1])
        if said_next is None or made[-1].finish_reason != "stop":
            break
        messages = (
            *messages,
            Message(role="assistant", content=made[-1].text, reasoning=made[-1].reasoning),
            Message(role="user", content=said_next),
        )
        fault, prompt = _next_prompt(chat, messages, budget)
        if fault:
            break
        request = dataclasses.replace(request, call=request.call + 1, prompt_token_ids=prompt)
    whole = compose(made)
    if fault:
        whole = dataclasses.replace(whole, finish_reason=fault)
    return Answer(
        completion=whole,
        completions=tuple(made) if len(made) > 1 else (),
        prompt_token_ids=request.prompt_token_ids,
        has_stray_marker=has_stray,
    )


async def _generate(
    engine: Engine, chat: Chat, request: Request, budget: Budget
) -> list[Completion]:
    """The request's completion, preceded by the one cut short if there were two attempts."""
    first = await generated(engine, chat, request, budget.thinking_tokens)
    # A request that was cut off for time (engine.cut_off) has tokens left: more would not help.
    used = max(first.num_completion_tokens, len(first.token_ids))
    is_full = first.finish_reason == "length" and used >= request.max_tokens
    if budget.most_tokens == request.max_tokens or not is_full:
        return [first]
    again = dataclasses.replace(request, attempt=request.attempt + 1, max_tokens=budget.most_tokens)
    return [first, await generated(engine, chat, again, budget.thinking_tokens)]


async def generated(
    engine: Engine, chat: Chat, request: Request, thinking_tokens: int | None = None
) -> Completion:
    """The completion of a request, its thought parted from its text.

    A thought that takes more than `thinking_tokens` is closed, and the model goes on with its
    answer in the rest of `max_tokens`. vLLM can do the same inside of one request
    (`thinking_token_budget`), but not beside speculative decoding, and only for some parsers.
    """
    prompt = request.prompt_token_ids
    limit = request.max_tokens
    if thinking_tokens is not None and chat.thinking is not None:
        limit = min(limit, thinking_tokens)
    first = await engine.generate(dataclasses.replace(request, max_tokens=limit))
    is_full = first.finish_reason == "length" and first.num_completion_tokens >= limit
    if limit == request.max_tokens or not is_full:
        return split_thought(chat, prompt, first)
    begun = resumable_ids(chat, prompt, first.token_ids)
    rest = await engine.generate(
        dataclasses.replace(
            request,
            prompt_token_ids=(*prompt, *begun),
            # The closing of a thought counts too, so that a planned length holds.
            max_tokens=max(1, request.max_tokens - len(begun)),
        )
    )
    whole = dataclasses.replace(
        rest,
        text=f"{first.text}{rest.text}",
        token_ids=(*begun, *rest.token_ids),
        num_prompt_tokens=first.num_prompt_tokens,
        num_cached_tokens=first.num_cached_tokens,
        num_completion_tokens=first.num_completion_tokens + rest.num_completion_tokens,
        is_thought_cut=len(begun) > len(first.token_ids),
    )
    return split_thought(chat, prompt, whole)


def _next_prompt(
    chat: Chat, messages: Sequence[Message], budget: Budget
) -> tuple[str, tuple[int, ...]]:
    """The finish reason if a further call cannot be made, else empty, and the ids of its prompt."""
    try:
        prompt = encode_prompt(chat, messages)
    except ControlTokenError:
        return "unencodable", ()
    # Lengths were planned, but a text can take more tokens when read than when it was written.
    is_long = len(prompt) + budget.most_tokens > budget.max_model_len
    return ("length" if is_long else ""), prompt


def compose(made: Sequence[Completion]) -> Completion:
    """The last attempt at each call, joined into one completion; a single call stays as it is.

    Texts are separated by an empty line, tokens are summed, the finish reason is the last one.
    """
    calls = list({completion.call: completion for completion in made}.values())
    if len(calls) == 1:
        return calls[0]
    return dataclasses.replace(
        calls[-1],
        call=0,
        attempt=max(call.attempt for call in calls),
        text="\n\n".join(call.text.strip() for call in calls),
        reasoning="\n\n".join(call.reasoning for call in calls if call.reasoning),
        token_ids=(),
        is_thought_cut=any(call.is_thought_cut for call in calls),
        num_prompt_tokens=sum(call.num_prompt_tokens for call in calls),
        num_cached_tokens=sum(call.num_cached_tokens for call in calls),
        num_completion_tokens=sum(call.num_completion_tokens for call in calls),
    )
