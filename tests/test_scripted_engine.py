from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import pytest

from orca2_gen.calls import Budget
from orca2_gen.chat import Chat
from orca2_gen.engine import Request
from orca2_gen.grading.grade import grade
from orca2_gen.judging import judge
from orca2_gen.records import AnswerType, Problem
from orca2_gen.scripted_engine import ScriptedEngine, planted_script
from orca2_gen.tasks.formats import CLOSED
from tests.conftest import ungraded_score

REQUEST = Request(
    problem_id="t/train/0",
    role="student",
    strategy="step_by_step",
    call=0,
    attempt=0,
    prompt_token_ids=(1, 2),
    max_tokens=50,
)


def unread(ids: Sequence[int]) -> str:
    raise AssertionError("only a judge reads what it is asked")


def test_planted_accuracies_come_out_and_are_paired_over_strategies() -> None:
    problems = {
        f"t/train/{n}": Problem(
            problem_id=f"t/train/{n}", task="t", question="?", target=str(n), answer_type="numeric"
        )
        for n in range(1000)
    }
    script = planted_script(
        problems, {"direct_answer": 0.2, "step_by_step": 0.7}, run_seed=3, read=unread
    )

    def solved(strategy: str) -> set[str]:
        requests = (
            dataclasses.replace(REQUEST, problem_id=key, strategy=strategy) for key in problems
        )
        return {
            r.problem_id
            for r in requests
            if grade(problems[r.problem_id], script(r), "stop").outcome == "correct"
        }

    direct, steps = solved("direct_answer"), solved("step_by_step")
    assert 150 < len(direct) < 250 and 650 < len(steps) < 750
    assert direct <= steps
    assert solved("direct_answer") == direct


TARGETS: dict[AnswerType, str] = {
    "exact": "Tofis",
    "numeric": "12",
    "multiple_choice": "A",
    "yes_no": "No",
    "list": "red\ngreen",
    "span": "Denver Broncos\nCarolina Panthers",
    "mathematics": "\\frac{1}{2}",
    "summary": "A storm came over the town and two bridges fell.",
}


@pytest.mark.parametrize("answer_type", CLOSED)
def test_a_planted_answer_of_every_type_is_graded_as_it_was_planted(
    answer_type: AnswerType,
) -> None:
    problem = Problem(
        problem_id="t/train/0",
        task="t",
        question="?",
        target=TARGETS[answer_type],
        answer_type=answer_type,
        choices=("dog", "cat") if answer_type == "multiple_choice" else (),
    )
    for accuracy, outcome in ((1.0, "correct"), (0.0, "incorrect")):
        script = planted_script(
            {problem.problem_id: problem}, {"step_by_step": accuracy}, 0, unread
        )
        assert grade(problem, script(REQUEST), "stop").outcome == outcome


@pytest.mark.parametrize("rightly", [True, False])
def test_a_planted_judge_tells_a_planted_open_answer_by_its_reference(
    chat: Chat, rightly: bool
) -> None:
    problem = Problem(
        problem_id="t/train/0",
        task="t",
        question="Why is snow white?",
        target="It scatters all light.",
        answer_type="open",
    )
    script = planted_script(
        {problem.problem_id: problem}, {"step_by_step": float(rightly)}, 0, chat.tokenizer.decode
    )
    text = script(REQUEST)
    assert grade(problem, text, "stop").outcome == "ungraded"
    found = asyncio.run(
        judge(
            problem,
            ungraded_score(problem, text),
            engine=ScriptedEngine(chat, script),
            chat=chat,
            budget=Budget(max_tokens=200, max_model_len=20_000),
        )
    )
    assert (found.outcome, found.score) == (("correct", 1.0) if rightly else ("incorrect", 0.0))
