"""problem x chosen strategy on the teacher's engine -> its rationales, or a Rejection."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from orca2_gen.calls import Answer, Budget, Sampling, ask
from orca2_gen.chat import Chat
from orca2_gen.engine import Engine
from orca2_gen.grading.grade import graded
from orca2_gen.grading.verdicts import Grade
from orca2_gen.prompts import user_text
from orca2_gen.quoting import quotes_instruction
from orca2_gen.records import Completion, Problem, Rationale, Rejection
from orca2_gen.strategies import Strategies

ACCEPTANCE_VERSION = 3
"""Raise it with every change to what is accepted: part of the stage keys."""

Thoughts = Literal["keep", "drop", "refuse"]
GRADED_FAULTS = ("incorrect", "unparsed", "ungraded")
"""Reasons to refuse an answer that today's grader gives; another one may give others."""
FAULTS = (
    "truncated",
    "empty",
    "stray_marker",
    "thought",
    "thought_cut",
    "quotes_instruction",
    *GRADED_FAULTS,
    "repeated",
)
"""All reasons to refuse an answer."""
_COMPLETION_FIELDS = (
    "problem_id",
    "strategy",
    "attempt",
    "text",
    "num_prompt_tokens",
    "num_completion_tokens",
    "reasoning",
)
"""Fields that a Rationale takes over from its completion."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """The limits and the sampling of the teacher's attempts at one problem."""

    max_tokens: int
    """Tokens of one call."""
    max_model_len: int
    max_attempts: int
    temperature: float
    """Temperature of every attempt after the first, which is greedy."""
    top_p: float
    verify: bool
    """Whether an answer must match gold."""
    run_seed: int
    thoughts: Thoughts = "drop"
    """What becomes of the teacher's thoughts."""
    thinking_tokens: int | None = None
    """Tokens of a thought; None sets no limit."""
    per_problem: int = 1
    """Accepted answers after which no further attempt is made."""

    @property
    def budget(self) -> Budget:
        return Budget(
            max_tokens=self.max_tokens,
            max_model_len=self.max_model_len,
            thinking_tokens=self.thinking_tokens,
        )

    def sampling(self, attempt: int) -> Sampling:
        """The sampling of an attempt; the first is greedy."""
        if attempt == 0:
            return Sampling(run_seed=self.run_seed)
        return Sampling(temperature=self.temperature, top_p=self.top_p, run_seed=self.run_seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Taught:
    """All that the teacher said about one problem, by attempt."""

    rationales: tuple[Rationale, ...]
    """Accepted answers, no two of one text, or of one text and thought where thoughts are kept."""
    refused: tuple[Rationale, ...]
    """The others, each with its fault."""
    rejection: Rejection | None
    """The problem's, if no answer was accepted; it names each attempt's fault."""


async def teach(
    problem: Problem,
    strategy: str,
    *,
    engine: Engine,
    chat: Chat,
    strategies: Strategies,
    asking: Asking,
    stored: Sequence[Rationale] = (),
) -> Taught:
    """The teacher's answers, asked for until `per_problem` are accepted or attempts run out.

    Answers in `stored`, which an earlier run asked for in the same words, are graded again instead
    of asked for.
    """

    async def answer_of(attempt: int) -> Rationale:
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
        verdict = await graded(problem, answer.completion)
        rationale = _rationale(problem, strategy, attempt, answer, verdict, strategies)
        told = (rationale.system, *rationale.further_calls)
        fault = fault_of(
            answer,
            verdict,
            told=told,
            user=rationale.user,
            verify=_is_verified(problem, asking),
            thoughts=asking.thoughts,
        )
        return dataclasses.replace(rationale, fault=fault or "")

    taught = await _taught(problem, asking, stored, answer_of)
    assert taught is not None
    return taught


async def retaught(problem: Problem, asking: Asking, stored: Sequence[Rationale]) -> Taught | None:
    """What `teach` would return, from stored answers alone; None if it would ask for another."""
    return await _taught(problem, asking, stored, None)


async def _taught(
    problem: Problem,
    asking: Asking,
    stored: Sequence[Rationale],
    answer_of: Callable[[int], Awaitable[Rationale]] | None,
) -> Taught | None:
    """The answers to one attempt after the other; None if one is neither stored nor asked for."""
    by_attempt = {row.attempt: row for row in stored}
    accepted: list[Rationale] = []
    refused: list[Rationale] = []
    for attempt in range(asking.max_attempts):
        if attempt in by_attempt:
            row = await _regraded(problem, by_attempt[attempt], asking)
        elif answer_of is not None:
            row = await answer_of(attempt)
        else:
            return None
        said = {taught_by(each, asking.thoughts) for each in accepted}
        if not row.fault and taught_by(row, asking.thoughts) in said:
            row = dataclasses.replace(row, fault="repeated")
        if row.fault:
            refused.append(row)
            continue
        accepted.append(row)
        if len(accepted) == asking.per_problem:
            break
    return Taught(
        rationales=tuple(accepted),
        refused=tuple(refused),
        rejection=None if accepted else _rejection(problem, refused),
    )


def taught_by(rationale: Rationale, thoughts: Thoughts) -> tuple[str, str]:
    """What a training row holds of an answer; two rows of a problem with the same are one.

    Where thoughts are kept, an answer that was thought out otherwise teaches something else.
    """
    thought = rationale.reasoning if thoughts == "keep" else ""
    return " ".join(rationale.text.split()), " ".join(thought.split())


async def _regraded(problem: Problem, stored: Rationale, asking: Asking) -> Rationale:
    """A stored answer under today's grader; a fault that no grader found stays."""
    completion = Completion(
        role="teacher",
        call=0,
        finish_reason="length" if stored.fault == "truncated" else "stop",
        num_cached_tokens=0,
        **{name: getattr(stored, name) for name in _COMPLETION_FIELDS},
    )
    verdict = await graded(problem, completion)
    fault = stored.fault
    if fault in ("", "repeated", *GRADED_FAULTS):
        fault = _graded_fault(verdict, _is_verified(problem, asking)) or ""
    return dataclasses.replace(stored, answer=verdict.answer, fault=fault)


def _is_verified(problem: Problem, asking: Asking) -> bool:
    # An open answer has no gold to match: one that is finished and quotes nothing is kept.
    return asking.verify and problem.answer_type != "open"


def _rationale(
    problem: Problem,
    strategy: str,
    attempt: int,
    answer: Answer,
    verdict: Grade,
    strategies: Strategies,
) -> Rationale:
    completion = answer.completion
    return Rationale(
        problem_id=problem.problem_id,
        task=problem.task,
        strategy=strategy,
        attempt=attempt,
        system=strategies.system_message(strategy, problem),
        user=user_text(problem, strategies),
        text=completion.text,
        answer=verdict.answer,
        num_prompt_tokens=completion.num_prompt_tokens,
        num_completion_tokens=completion.num_completion_tokens,
        further_calls=strategies.further_calls.get(strategy, ()),
        completions=answer.completions,
        reasoning=completion.reasoning,
    )


def _rejection(problem: Problem, refused: Sequence[Rationale]) -> Rejection:
    last = refused[-1]
    return Rejection(
        problem_id=problem.problem_id,
        stage="rationales",
        reason=last.fault,
        detail=f"{last.strategy}: {len(refused)} attempts were "
        f"{', '.join(each.fault for each in refused)}; the last answer read was "
        f"{last.answer[:80]!r}, gold is {problem.target[:80]!r}",
    )


def fault_of(
    answer: Answer,
    verdict: Grade,
    *,
    told: Sequence[str],
    user: str,
    verify: bool,
    thoughts: Thoughts = "drop",
) -> str | None:
    """The reason to reject a teacher's answer; None if it can be trained on.

    `told` holds the texts that the student does not see: the instruction and the further calls.
    """
    completion = answer.completion
    if completion.finish_reason != "stop":
        return "truncated"
    if not completion.text.strip():
        return "empty"
    if answer.has_stray_marker:
        return "stray_marker"
    if thoughts == "refuse" and completion.reasoning:
        return "thought"
    if thoughts == "keep" and completion.is_thought_cut:
        return "thought_cut"  # a row would teach to break off
    said = [completion.text, completion.reasoning] if thoughts == "keep" else [completion.text]
    if any(quotes_instruction(each, text, user) for each in said for text in told):
        return "quotes_instruction"
    return _graded_fault(verdict, verify)


def _graded_fault(verdict: Grade, verify: bool) -> str | None:
    """The fault that the grader finds in an answer that has no other."""
    if verify and verdict.outcome != "correct":
        return verdict.outcome
    return "unparsed" if verdict.outcome == "unparsed" else None
