from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.chat import Chat, encode_prompt, encode_text, load_chat, template_ids
from orca2_gen.engine import Request
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.rationales import Asking, Taught, retaught, taught_by, teach
from orca2_gen.records import Problem, Rationale, Rejection
from orca2_gen.scripted_engine import ScriptedEngine
from orca2_gen.strategies import Strategies
from tests.answers import ANSWER
from tests.chat.collection import directory, shapes

ASKING = Asking(
    max_tokens=200,
    max_model_len=4096,
    max_attempts=3,
    temperature=0.7,
    top_p=0.9,
    verify=True,
    run_seed=5,
)
RIGHT, WRONG = "Let us see. 4 + 5 is nine.\nAnswer: 9", "Answer: 8"
INSTRUCTION_WORDS = (
    "Begin with what is given and what is asked. Then work forward in small numbered steps"
)


def taught(
    problem: Problem,
    chat: Chat,
    strategies: Strategies,
    script: Callable[[Request], str | Sequence[int]],
    asking: Asking,
) -> Taught:
    return asyncio.run(
        teach(
            problem,
            "step_by_step",
            engine=ScriptedEngine(chat, script),
            chat=chat,
            strategies=strategies,
            asking=asking,
        )
    )


def ask(
    problem: Problem,
    chat: Chat,
    strategies: Strategies,
    script: Callable[[Request], str | Sequence[int]],
    asking: Asking = ASKING,
) -> tuple[Rationale | Rejection, list[Request]]:
    requests: list[Request] = []

    def noted(request: Request) -> str | Sequence[int]:
        requests.append(request)
        return script(request)

    engine = ScriptedEngine(chat, noted)
    result = asyncio.run(
        teach(
            problem, "step_by_step", engine=engine, chat=chat, strategies=strategies, asking=asking
        )
    )
    return result.rejection or result.rationales[0], requests


def test_a_right_first_answer_is_kept_after_one_greedy_call(
    sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    result, [request] = ask(sum_problem, chatml, strategies, lambda r: RIGHT)
    assert isinstance(result, Rationale)
    assert (result.text, result.answer, result.attempt) == (RIGHT, "9", 0)
    assert result.system == strategies.instructions["step_by_step"]
    assert result.user == user_text(sum_problem, strategies)
    assert (request.temperature, request.top_p, request.role) == (0.0, 1.0, "teacher")
    assert request.prompt_token_ids == encode_prompt(
        chatml, prompt_messages(result.system, result.user)
    )


def test_later_attempts_are_sampled_with_distinct_and_stable_seeds(
    sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    _, requests = ask(sum_problem, chatml, strategies, lambda r: WRONG)
    _, again = ask(sum_problem, chatml, strategies, lambda r: WRONG)
    assert [r.temperature for r in requests] == [0.0, 0.7, 0.7]
    assert [r.attempt for r in requests] == [0, 1, 2]
    assert len({r.seed for r in requests}) == 3
    assert [r.seed for r in again] == [r.seed for r in requests]
    _, reseeded = ask(
        sum_problem, chatml, strategies, lambda r: WRONG, dataclasses.replace(ASKING, run_seed=6)
    )
    assert {r.seed for r in reseeded}.isdisjoint(r.seed for r in requests)


@given(right_at=st.integers(0, 6), max_attempts=st.integers(1, 5))
def test_the_engine_is_asked_until_the_first_right_answer_and_at_most_max_attempts_times(
    chatml: Chat, strategies: Strategies, right_at: int, max_attempts: int
) -> None:
    problem = Problem(
        problem_id="t/train/0", task="t", question="?", target="9", answer_type="numeric"
    )
    asking = dataclasses.replace(ASKING, max_attempts=max_attempts)
    result, requests = ask(
        problem, chatml, strategies, lambda r: RIGHT if r.attempt >= right_at else WRONG, asking
    )
    assert len(requests) == min(right_at + 1, max_attempts)
    assert isinstance(result, Rationale) == (right_at < max_attempts)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (WRONG, "incorrect"),
        ("I have no idea.", "unparsed"),
        ("so " * 400 + "\nAnswer: 9", "truncated"),
        ("", "empty"),
        (" \n ", "empty"),
        (f"{INSTRUCTION_WORDS}.\nAnswer: 9", "quotes_instruction"),
        (
            f"I was told: {INSTRUCTION_WORDS.upper().replace(' ', ', ')}\nAnswer: 9",
            "quotes_instruction",
        ),
    ],
)
def test_a_bad_answer_is_rejected_with_its_reason_and_gold(
    sum_problem: Problem, chatml: Chat, strategies: Strategies, text: str, reason: str
) -> None:
    result, requests = ask(sum_problem, chatml, strategies, lambda r: text)
    assert isinstance(result, Rejection)
    assert (result.problem_id, result.stage, result.reason) == (
        sum_problem.problem_id,
        "rationales",
        reason,
    )
    assert result.detail.count(reason) == len(requests) == 3
    assert "gold is '9'" in result.detail


def test_every_attempts_fault_is_told(
    sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    texts = ["", "I have no idea.", WRONG]
    result, _ = ask(sum_problem, chatml, strategies, lambda r: texts[r.attempt])
    assert isinstance(result, Rejection)
    assert (
        "3 attempts were empty, unparsed, incorrect; the last answer read was '8'" in result.detail
    )


def test_without_verification_a_wrong_answer_is_kept_and_an_unreadable_one_is_not(
    sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    asking = dataclasses.replace(ASKING, verify=False)
    kept, _ = ask(sum_problem, chatml, strategies, lambda r: WRONG, asking)
    assert isinstance(kept, Rationale) and kept.answer == "8"
    refused, _ = ask(sum_problem, chatml, strategies, lambda r: "I have no idea.", asking)
    assert isinstance(refused, Rejection) and refused.reason == "unparsed"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Snow scatters all light alike.", None),
        ("so " * 400, "truncated"),
        (" ", "empty"),
        ("<think>Hm.</think>", "unparsed"),
        (f"{INSTRUCTION_WORDS}. It scatters light.", "quotes_instruction"),
    ],
)
def test_an_open_answer_that_is_finished_and_quotes_nothing_is_kept_unverified(
    chatml: Chat, strategies: Strategies, text: str, reason: str | None
) -> None:
    problem = Problem(
        problem_id="t/train/0",
        task="t",
        question="Why is snow white?",
        target="It scatters all light.",
        answer_type="open",
    )
    result, _ = ask(problem, chatml, strategies, lambda r: text)
    if reason is None:
        assert isinstance(result, Rationale) and result.text == text
    else:
        assert isinstance(result, Rejection) and result.reason == reason


@pytest.fixture(scope="session")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    """A teacher that thinks between tokens of its own."""
    [shape] = [shape for shape in shapes() if shape.name == "qwen_3"]
    return load_chat(str(directory(shape, tmp_path_factory.getbasetemp() / "collection")))


def thinking(chat: Chat, thought: str, answer: str) -> list[int]:
    opening, closing = template_ids(chat, "<think>\n"), template_ids(chat, "\n</think>\n\n")
    return [*opening, *encode_text(chat, thought), *closing, *encode_text(chat, answer)]


def asking_to(thoughts: str, **more: int) -> Asking:
    return dataclasses.replace(ASKING, thoughts=thoughts, max_attempts=1, **more)


@pytest.mark.parametrize("thoughts", ["keep", "drop"])
def test_a_thought_stands_beside_the_text_that_is_graded(
    sum_problem: Problem, thinker: Chat, strategies: Strategies, thoughts: str
) -> None:
    said = thinking(thinker, "Is it 8? Answer: 8", RIGHT)
    result, _ = ask(sum_problem, thinker, strategies, lambda r: said, asking_to(thoughts))
    assert isinstance(result, Rationale)
    assert (result.text, result.reasoning, result.answer) == (RIGHT, "Is it 8? Answer: 8", "9")


def test_a_right_thought_does_not_make_a_wrong_answer_right(
    sum_problem: Problem, thinker: Chat, strategies: Strategies
) -> None:
    said = thinking(thinker, RIGHT, WRONG)
    result, _ = ask(sum_problem, thinker, strategies, lambda r: said, asking_to("keep"))
    assert isinstance(result, Rejection) and result.reason == "incorrect"


@pytest.mark.parametrize(
    ("thoughts", "thought", "reason"),
    [
        ("refuse", "4 and 5", "thought"),
        ("keep", f"I am told: {INSTRUCTION_WORDS}.", "quotes_instruction"),
        ("drop", f"I am told: {INSTRUCTION_WORDS}.", ""),
    ],
)
def test_a_thought_is_refused_where_it_may_not_be_or_would_teach_the_instruction(
    sum_problem: Problem,
    thinker: Chat,
    strategies: Strategies,
    thoughts: str,
    thought: str,
    reason: str,
) -> None:
    said = thinking(thinker, thought, RIGHT)
    result, _ = ask(sum_problem, thinker, strategies, lambda r: said, asking_to(thoughts))
    assert (result.reason if isinstance(result, Rejection) else "") == reason


def test_a_thought_that_was_cut_is_never_kept_for_training(
    sum_problem: Problem, thinker: Chat, strategies: Strategies
) -> None:
    closed = template_ids(thinker, "\n</think>\n\n")

    def script(request: Request) -> Sequence[int]:
        is_closed = request.prompt_token_ids[-len(closed) :] == closed
        if is_closed:
            return encode_text(thinker, RIGHT)
        return thinking(thinker, "and so on " * 50, WRONG)

    for thoughts, kept in (("keep", False), ("drop", True)):
        asking = asking_to(thoughts, thinking_tokens=20)
        result, _ = ask(sum_problem, thinker, strategies, script, asking)
        assert isinstance(result, Rationale) == kept
        if isinstance(result, Rejection):
            assert result.reason == "thought_cut"


def test_an_answer_with_markers_inside_is_no_row(
    sum_problem: Problem, thinker: Chat, strategies: Strategies
) -> None:
    call = template_ids(thinker, "<tool_call>")
    said = [*thinking(thinker, "4 and 5", "I call "), *call, *encode_text(thinker, RIGHT)]
    result, _ = ask(sum_problem, thinker, strategies, lambda r: said, asking_to("drop"))
    assert isinstance(result, Rejection) and result.reason == "stray_marker"


SPACED = "  Let us see.\n4 + 5 is nine. \nAnswer: 9"


@given(
    said=st.lists(st.sampled_from([RIGHT, SPACED, WRONG, "Nine it is.\nAnswer: 9"]), max_size=6),
    per_problem=st.integers(1, 6),
)
def test_the_first_different_right_answers_are_accepted_and_every_other_attempt_is_refused(
    chatml: Chat, strategies: Strategies, said: list[str], per_problem: int
) -> None:
    problem = Problem(
        problem_id="t/train/0", task="t", question="?", target="9", answer_type="numeric"
    )
    said = [*said, RIGHT] * 3
    asking = dataclasses.replace(ASKING, max_attempts=len(said), per_problem=per_problem)
    result = taught(problem, chatml, strategies, lambda r: said[r.attempt], asking)
    accepted, refused = result.rationales, result.refused
    assert result.rejection is None and all(not row.fault for row in accepted)
    assert len({" ".join(row.text.split()) for row in accepted}) == len(accepted) <= per_problem
    made = sorted([*accepted, *refused], key=lambda row: row.attempt)
    assert [row.attempt for row in made] == list(range(len(made)))
    right = {" ".join(text.split()) for text in said} - {WRONG.replace("\n", " ")}
    is_done = len(accepted) == per_problem
    assert made[-1].attempt == (accepted[-1].attempt if is_done else len(said) - 1)
    assert is_done or len(accepted) == len(right)
    assert {row.fault for row in refused} <= {"incorrect", "repeated"}
    assert all((row.fault == "incorrect") == (row.answer == "8") for row in refused)


def test_a_rejected_problem_keeps_the_answers_that_were_refused(
    sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    result = taught(sum_problem, chatml, strategies, lambda r: WRONG, ASKING)
    assert result.rationales == () and result.rejection is not None
    assert [(row.attempt, row.fault, row.answer) for row in result.refused] == [
        (attempt, "incorrect", "8") for attempt in range(3)
    ]


SAID = (RIGHT, f"  {RIGHT} ", "Nine.\nAnswer: 9", WRONG, "I have no idea.", "", "so " * 400)


@given(
    said=st.lists(st.sampled_from(SAID), min_size=5, max_size=5),
    was=st.lists(st.sampled_from(["", "incorrect", "unparsed", "ungraded"]), min_size=5),
    num_stored=st.integers(0, 5),
    lost=st.sets(st.integers(0, 4), max_size=2),
    per_problem=st.integers(1, 3),
    max_attempts=st.integers(1, 5),
    verify=st.booleans(),
)
def test_stored_answers_are_taken_as_if_they_had_just_come_and_only_the_others_are_asked_for(
    sum_problem: Problem,
    chatml: Chat,
    strategies: Strategies,
    said: list[str],
    was: list[str],
    num_stored: int,
    lost: set[int],
    per_problem: int,
    max_attempts: int,
    verify: bool,
) -> None:
    asking = dataclasses.replace(
        ASKING, per_problem=per_problem, max_attempts=max_attempts, verify=verify
    )
    asked: list[int] = []

    def script(request: Request) -> str:
        asked.append(request.attempt)
        return said[request.attempt]

    def run(asking: Asking, stored: Sequence[Rationale] = ()) -> Taught:
        asked.clear()
        return asyncio.run(
            teach(
                sum_problem,
                "step_by_step",
                engine=ScriptedEngine(chatml, script),
                chat=chatml,
                strategies=strategies,
                asking=asking,
                stored=stored,
            )
        )

    every = run(dataclasses.replace(asking, per_problem=9, max_attempts=5))
    answers = sorted((*every.rationales, *every.refused), key=lambda row: row.attempt)
    # The verdicts of another grader, where a grader gives them.
    stored = [
        row
        if row.fault in ("truncated", "empty")
        else dataclasses.replace(row, fault=fault, answer="of another grader")
        for row, fault in zip(answers, was, strict=False)
        if row.attempt < num_stored and row.attempt not in lost
    ]
    fresh = run(asking)
    needed = list(asked)
    again = run(asking, stored)
    assert again == fresh
    assert asked == [number for number in needed if number not in {row.attempt for row in stored}]
    alone = asyncio.run(retaught(sum_problem, asking, stored))
    assert alone == (None if asked else fresh)


said_in_words = st.lists(st.sampled_from(["it", "is", "7"]), min_size=1, max_size=3)
pairs = st.tuples(said_in_words, said_in_words)


@given(texts=pairs, thoughts=pairs)
def test_two_answers_are_one_row_if_they_teach_the_same_words(
    texts: tuple[list[str], list[str]], thoughts: tuple[list[str], list[str]]
) -> None:
    first, second = (
        dataclasses.replace(ANSWER, text=space.join(text), reasoning=space.join(thought))
        for text, thought, space in zip(texts, thoughts, (" ", "\n\n"), strict=True)
    )
    are_one = taught_by(first, "drop") == taught_by(second, "drop")
    assert are_one == (texts[0] == texts[1])
    are_one = taught_by(first, "keep") == taught_by(second, "keep")
    assert are_one == (texts[0] == texts[1] and thoughts[0] == thoughts[1])
