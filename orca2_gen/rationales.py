"""problem x chosen strategy on the teacher's engine -> Rationale | Rejection."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orca2_gen.calls import Budget, Sampling, ask
from orca2_gen.chat import Chat
from orca2_gen.engine import Engine
from orca2_gen.grading.grade import Grade, graded
from orca2_gen.prompts import user_text
from orca2_gen.records import Completion, Problem, Rationale, Rejection
from orca2_gen.strategies import Strategies

ACCEPTANCE_VERSION = 2
"""Raise it with every change of what is accepted: it is part of the stage keys."""

QUOTED_WORDS = 8
"""A rationale that repeats so many words of its instruction in a row would teach the instruction
after all."""


FEWEST_WORDS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """How often and how the teacher is asked about one problem."""

    max_tokens: int
    """Of one call."""
    max_model_len: int
    max_attempts: int
    temperature: float
    """Of every attempt after the first, which is greedy."""
    top_p: float
    verify: bool
    """Whether an answer must match gold."""
    run_seed: int

    @property
    def budget(self) -> Budget:
        return Budget(max_tokens=self.max_tokens, max_model_len=self.max_model_len)

    def sampling(self, attempt: int) -> Sampling:
        """The first attempt's is greedy."""
        if attempt == 0:
            return Sampling(run_seed=self.run_seed)
        return Sampling(temperature=self.temperature, top_p=self.top_p, run_seed=self.run_seed)


async def teach(
    problem: Problem,
    strategy: str,
    *,
    engine: Engine,
    chat: Chat,
    strategies: Strategies,
    asking: Asking,
) -> Rationale | Rejection:
    """The first acceptable completion of the teacher, or the Rejection that names why each attempt
    failed.
    """
    instruction = strategies.system_message(strategy, problem)
    user = user_text(problem, strategies)
    further_calls = strategies.further_calls.get(strategy, ())
    faults: list[str] = []
    for attempt in range(asking.max_attempts):
        answer = await ask(
            problem,
            strategy,
            role="teacher",
            engine=engine,
            chat=chat,
            strategies=strategies,
            budget=asking.budget,
            attempt=attempt,
            sampling=asking.sampling(attempt),
        )
        completion = answer.completion
        verdict = await graded(problem, completion)
        told = (instruction, *further_calls)
        # An open answer has no gold to match: one that is finished and quotes nothing is kept.
        verify = asking.verify and problem.answer_type != "open"
        fault = fault_of(completion, verdict, told=told, user=user, verify=verify)
        if fault is None:
            return Rationale(
                problem_id=problem.problem_id,
                task=problem.task,
                strategy=strategy,
                attempt=attempt,
                system=instruction,
                user=user,
                text=completion.text,
                answer=verdict.answer,
                num_prompt_tokens=completion.num_prompt_tokens,
                num_completion_tokens=completion.num_completion_tokens,
                further_calls=further_calls,
                completions=answer.completions,
            )
        faults.append(fault)
    return Rejection(
        problem_id=problem.problem_id,
        stage="rationales",
        reason=faults[-1],
        detail=f"{strategy}: {asking.max_attempts} attempts were {', '.join(faults)}; "
        f"the last answer read was {verdict.answer[:80]!r}, gold is {problem.target[:80]!r}",
    )


def fault_of(
    completion: Completion, verdict: Grade, *, told: Sequence[str], user: str, verify: bool
) -> str | None:
    """Why a teacher's completion cannot be trained on: a Rejection's reason, or None if it can.
    `told` is what the student will not see: the instruction and what further calls say.
    """
    if completion.finish_reason != "stop":
        return "truncated"
    if not completion.text.strip():
        return "empty"
    if any(quotes_instruction(completion.text, text, user) for text in told):
        return "quotes_instruction"
    if verify and verdict.outcome != "correct":
        return verdict.outcome
    return "unparsed" if verdict.outcome == "unparsed" else None


def quotes_instruction(text: str, instruction: str, user: str) -> bool:
    """Whether the text repeats QUOTED_WORDS words in a row of the instruction, or all of a shorter
    one, that the user did not say. One of less than FEWEST_WORDS is everybody's ("Explain.").
    """
    told, heard, said = _words(instruction), _words(user), _words(text)
    if len(told) < FEWEST_WORDS:
        return False
    length = min(QUOTED_WORDS, len(told))
    return not (_runs(told, length) - _runs(heard, length)).isdisjoint(_runs(said, length))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _runs(words: list[str], length: int) -> set[tuple[str, ...]]:
    starts = range(len(words) - length + 1) if length else ()
    return {tuple(words[i : i + length]) for i in starts}
