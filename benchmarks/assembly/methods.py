"""The same method put together from ray.data.llm, with the project's own texts, rules and graders.

    grid       the student under every strategy on every scored problem, greedily
    usual      SAMPLES sampled answers of the teacher to every problem; the first accepted one stays
    careful    a greedy answer to every problem; what failed is sampled again, as often as by us

Both choose a strategy for each group from the grid's mean scores by our own rule, and take an
answer that our own run would take. Every execution has an engine of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.assembly.execution import Reply, answer
from benchmarks.assembly.ground import SAMPLES, Asked, Ground
from benchmarks.assembly.made import Held, Made
from orca2_gen.calls import Answer, Sampling
from orca2_gen.erasure import erase
from orca2_gen.rationales import fault_of
from orca2_gen.records import COMPLETION_FIELDS, Completion, Example, Rationale, StudentScore
from orca2_gen.selection.decision import choose, summarise
from ray_jobs.dispatch.leases import asking_of


def grid(ground: Ground) -> tuple[dict[str, str], Held]:
    """The strategy of each group, and the student's engine that it took."""
    replies, held = answer(ground.engine("student"), grid_prompts(ground), is_seeded=False)
    return chosen(ground, replies), held


def usual(ground: Ground, strategies: Mapping[str, str], student: Held) -> Made:
    """The rows of the usual assembly, from the strategies of a grid that took this engine."""
    asking = asking_of(ground.config.rationales, ground.config.teacher, 0)
    sampling = Sampling(temperature=asking.temperature, top_p=asking.top_p)
    asked = [
        ground.asked(problem, "teacher", strategies[group], attempt, sampling)
        for group, problems in ground.problems.items()
        for problem in problems
        for attempt in range(SAMPLES)
    ]
    replies, teacher = answer(ground.engine("teacher"), asked, is_seeded=False)
    rows = first_accepted(ground, replies)
    return Made(rows=rows, chosen=strategies, student=student, teacher=teacher)


def careful(ground: Ground, strategies: Mapping[str, str], student: Held) -> Made:
    """The rows of the careful assembly, from the strategies of a grid that took this engine."""
    asking = asking_of(ground.config.rationales, ground.config.teacher, 0)
    left = [(problem, group) for group, found in ground.problems.items() for problem in found]
    replies: list[Reply] = []
    teacher: Held | None = None
    for attempt in range(asking.max_attempts):
        sampling = asking.sampling(attempt)
        asked = [
            ground.asked(problem, "teacher", strategies[group], attempt, sampling)
            for problem, group in left
        ]
        if not asked:
            break
        found, held = answer(ground.engine("teacher"), asked, is_seeded=False)
        replies += found
        teacher = held if teacher is None else teacher + held
        done = {row.problem_id for row in first_accepted(ground, found)}
        left = [each for each in left if each[0].problem_id not in done]
    assert teacher is not None
    rows = first_accepted(ground, replies)
    return Made(rows=rows, chosen=strategies, student=student, teacher=teacher)


def replayed(
    ground: Ground,
    asked_student: Sequence[Asked],
    asked_teacher: Sequence[Asked],
    strategies: Mapping[str, str],
) -> Made:
    """The rows of what our own run asked, asked of ray.data.llm in its order, without waits."""
    _, student = answer(ground.engine("student"), asked_student, is_seeded=True)
    replies, teacher = answer(ground.engine("teacher"), asked_teacher, is_seeded=True)
    rows = first_accepted(ground, replies)
    return Made(rows=rows, chosen=strategies, student=student, teacher=teacher)


def grid_prompts(ground: Ground) -> list[Asked]:
    """The cells of the full grid, group by group and strategy by strategy."""
    return [
        ground.asked(problem, "student", strategy)
        for problems in ground.scored.values()
        for strategy in ground.rule.strategies
        for problem in problems
    ]


def chosen(ground: Ground, replies: Iterable[Reply]) -> dict[str, str]:
    """Group -> the strategy that our own rule chooses from these cells."""
    cells: dict[tuple[str, str], list[StudentScore]] = {}
    for reply in replies:
        key = reply.asked.problem.problem_id, reply.asked.strategy
        cells.setdefault(key, []).append(_score(reply))
    found = {}
    for group, problems in ground.scored.items():
        summaries = [
            summarise(name, [cell for each in problems for cell in cells[each.problem_id, name]])
            for name in ground.rule.strategies
        ]
        found[group] = choose(summaries, ground.rule).strategy
    return found


def first_accepted(ground: Ground, replies: Iterable[Reply]) -> tuple[Example, ...]:
    """The training rows of these replies: of each problem the earliest attempt that is accepted."""
    rows: dict[str, Example] = {}
    for reply in sorted(replies, key=lambda each: each.asked.attempt):
        if reply.asked.problem.problem_id not in rows and (row := _example(ground, reply)):
            rows[row.problem_id] = row
    return tuple(rows.values())


def _example(ground: Ground, reply: Reply) -> Example | None:
    """The training row of a reply; None if our own run would refuse it."""
    asked, config = reply.asked, ground.config
    completion = _completion(reply)
    fault = fault_of(
        Answer(completion=completion, completions=(), prompt_token_ids=()),
        reply.grade,
        told=(asked.system,),
        user=asked.user,
        verify=config.rationales.verify,
    )
    if fault is not None:
        return None
    rationale = Rationale(
        problem_id=asked.problem.problem_id,
        task=asked.problem.task,
        strategy=asked.strategy,
        attempt=asked.attempt,
        system=asked.system,
        user=asked.user,
        text=completion.text,
        answer=reply.grade.answer,
        num_prompt_tokens=completion.num_prompt_tokens,
        num_completion_tokens=completion.num_completion_tokens,
    )
    row = erase(
        rationale,
        chat=ground.chat("student"),
        strategies=ground.strategies,
        prompts=config.erasure.prompts,
        max_tokens=ground.engine("student").max_model_len,
    )
    return row if isinstance(row, Example) else None


def _completion(reply: Reply) -> Completion:
    asked = reply.asked
    return Completion(
        problem_id=asked.problem.problem_id,
        role=asked.role,
        strategy=asked.strategy,
        call=0,
        attempt=asked.attempt,
        text=reply.text,
        finish_reason=reply.finish_reason,
        num_prompt_tokens=reply.num_prompt_tokens,
        num_cached_tokens=0,
        num_completion_tokens=reply.num_completion_tokens,
    )


def _score(reply: Reply) -> StudentScore:
    completion = _completion(reply)
    return StudentScore(
        task=reply.asked.problem.task,
        outcome=reply.grade.outcome,
        score=reply.grade.score,
        answer=reply.grade.answer,
        **{name: getattr(completion, name) for name in COMPLETION_FIELDS},
    )
