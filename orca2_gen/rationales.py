"""problem x chosen strategy on the teacher's engine -> its rationales, or a Rejection."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orca2_gen.calls import Answer, Budget, Sampling, ask
from orca2_gen.chat import Chat
from orca2_gen.engine import Engine
from orca2_gen.grading.grade import graded
from orca2_gen.grading.verdicts import Grade
from orca2_gen.prompts import user_text
from orca2_gen.quoting import quotes_instruction
from orca2_gen.records import Problem, Rationale, Rejection
from orca2_gen.strategies import Strategies

ACCEPTANCE_VERSION = 3
"""Raise it with every change to what is accepted: part of the stage keys."""

Thoughts = Literal["keep", "drop", "refuse"]


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
) -> Taught:
    """The teacher's answers, asked for until `per_problem` are accepted or attempts run out."""
    accepted: list[Rationale] = []
    refused: list[Rationale] = []
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
        verdict = await graded(problem, answer.completion)
        rationale = _rationale(problem, strategy, attempt, answer, verdict, strategies)
        # An open answer has no gold to match: one that is finished and quotes nothing is kept.
        verify = asking.verify and problem.answer_type != "open"
        told = (rationale.system, *rationale.further_calls)
        fault = fault_of(
            answer, verdict, told=told, user=rationale.user, verify=verify, thoughts=asking.thoughts
        )
        said = {taught_by(each, asking.thoughts) for each in accepted}
        if fault is None and taught_by(rationale, asking.thoughts) in said:
            fault = "repeated"
        if fault is not None:
            refused.append(dataclasses.replace(rationale, fault=fault))
            continue
        accepted.append(rationale)
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
    if verify and verdict.outcome != "correct":
        return verdict.outcome
    return "unparsed" if verdict.outcome == "unparsed" else None
