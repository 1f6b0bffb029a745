from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.calls import Budget, ask
from orca2_gen.chat import encode_prompt, encode_text, load_chat
from orca2_gen.config.arguments import Room
from orca2_gen.endings import num_ending_ids
from orca2_gen.engine import Request
from orca2_gen.grading.answers import ANSWER_SENTENCES
from orca2_gen.judging import judging_messages
from orca2_gen.lengths import LengthBudget, length_budget, plan_length
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.records import Problem, Rejection
from orca2_gen.scoring import score
from orca2_gen.scripted_engine import ScriptedEngine
from orca2_gen.strategies import CAUTIOUS, EMPTY, Strategies
from tests.conftest import CHATML, write_tokenizer


def budget_of(room: Room, strategies: Strategies) -> LengthBudget:
    return length_budget(room, load_chat(room.tokenizer), strategies)


def problem_of(question: str) -> Problem:
    return Problem(
        problem_id="t/train/0", task="t", question=question, target="1", answer_type="numeric"
    )


def room(directory: Path, max_model_len: int) -> Room:
    return Room(
        role="student",
        tokenizer=str(directory),
        max_model_len=max_model_len,
        max_tokens=20,
        answer_key="scoring.max_tokens",
    )


@pytest.mark.parametrize("name", ["chatml_dir", "llama_dir"])
@given(question=st.text(min_size=1, max_size=40))
def test_a_problem_is_accepted_exactly_if_its_longest_prompt_and_answer_fit(
    request: pytest.FixtureRequest, strategies: Strategies, name: str, question: str
) -> None:
    directory: Path = request.getfixturevalue(name)
    chat, problem = load_chat(str(directory)), problem_of(question)
    systems = [strategies.system_message(n) for n in (*strategies.names, CAUTIOUS, EMPTY)]
    longest = max(
        len(encode_prompt(chat, prompt_messages(s, user_text(problem, strategies))))
        for s in systems
    )
    fits = budget_of(room(directory, longest + 20), strategies)
    assert plan_length(problem, strategies, [fits]) == problem
    tight = budget_of(room(directory, longest + 19), strategies)
    rejection = plan_length(problem, strategies, [fits, tight])
    assert isinstance(rejection, Rejection)
    assert (rejection.problem_id, rejection.reason) == (problem.problem_id, "prompt_too_long")


@given(question=st.text(min_size=1, max_size=40), num_words=st.integers(0, 30))
def test_every_call_of_an_accepted_problem_fits(
    chatml_dir: Path, strategies: Strategies, question: str, num_words: int
) -> None:
    several = dataclasses.replace(
        strategies, further_calls={"extract_generate": ("Now answer.", "Check " * 30)}
    )
    chat, problem = load_chat(str(chatml_dir)), problem_of(question)
    largest = dataclasses.replace(room(chatml_dir, 4096), max_tokens=40)
    budget = budget_of(largest, several)
    needed = budget.frame_tokens + len(encode_text(chat, user_text(problem, several))) + 40
    tight = dataclasses.replace(budget, room=dataclasses.replace(largest, max_model_len=needed))
    assert plan_length(problem, several, [tight]) == problem
    asked: list[Request] = []

    def script(request: Request) -> str:
        asked.append(request)
        return "so " * num_words

    answer = asyncio.run(
        ask(
            problem,
            "extract_generate",
            role="student",
            engine=ScriptedEngine(chat, script),
            chat=chat,
            strategies=several,
            budget=Budget(max_tokens=20, max_model_len=needed, retry_max_tokens=40),
        )
    )
    assert all(len(r.prompt_token_ids) + r.max_tokens <= needed for r in asked)
    if answer.completion.finish_reason == "stop":
        assert {request.call for request in asked} == {0, 1, 2}


def test_the_longest_instruction_of_a_category_counts_too(
    chatml_dir: Path, strategies: Strategies
) -> None:
    special = {("direct_answer", "logic", "puzzles"): "Consider every case. " * 100}
    longer = dataclasses.replace(strategies, special_instructions=special)
    plain = budget_of(room(chatml_dir, 4096), strategies)
    assert budget_of(room(chatml_dir, 4096), longer).frame_tokens > plain.frame_tokens + 100


def judges_room(directory: Path, max_model_len: int) -> Room:
    return dataclasses.replace(
        room(directory, max_model_len), role="judge", max_tokens=30, judged_tokens=200
    )


@given(question=st.text(min_size=1, max_size=40), reference=st.text(min_size=1, max_size=40))
def test_an_open_problem_is_accepted_exactly_if_judge_reference_and_longest_answer_fit(
    chatml_dir: Path, strategies: Strategies, question: str, reference: str
) -> None:
    problem = dataclasses.replace(problem_of(question), target=reference, answer_type="open")
    chat = load_chat(str(chatml_dir))
    needed = len(encode_prompt(chat, judging_messages(problem, ""))) + 200 + 30
    fits = budget_of(judges_room(chatml_dir, needed), strategies)
    assert plan_length(problem, strategies, [fits]) == problem
    tight = budget_of(judges_room(chatml_dir, needed - 1), strategies)
    rejection = plan_length(problem, strategies, [fits, tight])
    assert isinstance(rejection, Rejection) and rejection.reason == "prompt_too_long"
    assert rejection.detail.startswith("judge: ")
    closed = dataclasses.replace(problem, answer_type="exact")
    assert plan_length(closed, strategies, [tight]) == closed


def unigram(folder: Path) -> Path:
    """A tokenizer whose model itself reads `</s>` in a text as the end token."""
    from tokenizers import AddedToken, Tokenizer, models

    pieces = [
        ("<unk>", 0.0),
        ("</s>", 0.0),
        *((chr(code), -5.0) for code in range(32, 127)),
        ("\n", -5.0),
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.add_special_tokens([AddedToken("</s>", normalized=False, special=True)])
    template = CHATML.replace("<|im_end|>", "</s>").replace("<|im_start|>", "# ")
    return write_tokenizer(folder, tokenizer, template, eos_token="</s>", unk_token="<unk>")


def test_data_that_a_tokenizer_cannot_keep_from_control_ids_is_rejected(
    tmp_path: Path, strategies: Strategies
) -> None:
    budget = budget_of(room(unigram(tmp_path), 10_000), strategies)
    assert plan_length(problem_of("plain < words >"), strategies, [budget]) == problem_of(
        "plain < words >"
    )
    rejection = plan_length(problem_of("the end</s>"), strategies, [budget])
    assert isinstance(rejection, Rejection) and rejection.reason == "control_token"


def test_a_reference_that_cannot_be_kept_from_control_ids_is_rejected_for_the_judge(
    tmp_path: Path, strategies: Strategies
) -> None:
    problem = dataclasses.replace(problem_of("Why?"), answer_type="open", target="the end</s>")
    student = budget_of(room(unigram(tmp_path), 10_000), strategies)
    assert plan_length(problem, strategies, [student]) == problem
    judges = budget_of(judges_room(tmp_path, 10_000), strategies)
    rejection = plan_length(problem, strategies, [student, judges])
    assert isinstance(rejection, Rejection) and rejection.reason == "control_token"


@given(
    question=st.text(min_size=1, max_size=20), answer_type=st.sampled_from(["numeric", "summary"])
)
def test_a_problem_is_accepted_exactly_if_a_forced_ending_fits_too(
    chatml_dir: Path, strategies: Strategies, question: str, answer_type: str
) -> None:
    problem = dataclasses.replace(problem_of(question), answer_type=answer_type)
    plain = budget_of(room(chatml_dir, 4096), strategies)
    text = encode_text(plain.chat, user_text(problem, strategies))
    needed = plain.frame_tokens + len(text) + 20
    if answer_type in ANSWER_SENTENCES:
        needed += num_ending_ids(plain.chat) + 7
    for max_model_len in (needed, needed - 1):
        ended = dataclasses.replace(
            room(chatml_dir, max_model_len), scored_tokens=20, ending_tokens=7
        )
        found = plan_length(problem, strategies, [budget_of(ended, strategies)])
        assert (found == problem) == (max_model_len == needed)
        if isinstance(found, Rejection):
            assert ("with its forced ending" in found.detail) == (answer_type == "numeric")


@given(text=st.sampled_from(["so " * 60, "", "no idea", "a\n"]))
def test_the_ending_of_an_accepted_problem_fits(
    chatml_dir: Path, strategies: Strategies, text: str
) -> None:
    several = dataclasses.replace(strategies, further_calls={"extract_generate": ("Now answer.",)})
    chat, problem = load_chat(str(chatml_dir)), problem_of("What is 1 + 2?")
    ended = dataclasses.replace(room(chatml_dir, 4096), scored_tokens=20, ending_tokens=7)
    budget = budget_of(ended, several)
    needed = budget.frame_tokens + len(encode_text(chat, user_text(problem, several)))
    needed += budget.answer_tokens(problem)
    found = asyncio.run(
        score(
            problem,
            "extract_generate",
            role="student",
            engine=ScriptedEngine(chat, lambda request: text),
            chat=chat,
            strategies=several,
            budget=Budget(max_tokens=20, max_model_len=needed, answer_max_tokens=7),
        )
    )
    assert len(found.ending) == 1
