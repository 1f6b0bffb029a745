from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.calls import Budget
from orca2_gen.chat import Chat, encode_prompt, encode_text, load_chat
from orca2_gen.endings import ending_prompt, num_ending_ids
from orca2_gen.engine import Request
from orca2_gen.grading.answers import ANSWER_SENTENCES
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.records import Completion, Problem, StudentScore
from orca2_gen.scoring import regraded, score
from orca2_gen.scripted_engine import ScriptedEngine
from orca2_gen.strategies import Strategies

UNDECIDED = ("I have no idea.", "Answer: unknown", "", "so " * 300 + "Answer: 9")
DECIDED = ("Answer: 9", "Answer: 8", "so\nAnswer: 9")
ENDINGS = (" 9", " 8", " what?", " 9\n\nQuestion: 1?\nAnswer: 1", "so " * 40, "")
WIDE = Budget(max_tokens=60, max_model_len=4096, answer_max_tokens=12)


def scored(
    problem: Problem,
    chat: Chat,
    strategies: Strategies,
    text: str,
    ending: str = " 9",
    budget: Budget = WIDE,
    strategy: str = "step_by_step",
) -> tuple[StudentScore, list[Request]]:
    """The score of a problem whose calls all say a text, and the requests for it."""
    asked: list[Request] = []
    num_calls = 1 + len(strategies.further_calls.get(strategy, ()))

    def script(request: Request) -> str:
        asked.append(request)
        is_forced = request.call == num_calls or request.max_tokens == budget.answer_max_tokens
        return ending if is_forced else text

    found = asyncio.run(
        score(
            problem,
            strategy,
            role="student",
            engine=ScriptedEngine(chat, script),
            chat=chat,
            strategies=strategies,
            budget=budget,
        )
    )
    return found, asked


def alone(
    problem: Problem, chat: Chat, strategies: Strategies, text: str, **other: object
) -> StudentScore:
    """The score of a problem whose answer is not asked for again."""
    silent = dataclasses.replace(WIDE, answer_max_tokens=None)
    return scored(problem, chat, strategies, text, budget=silent)[0]


@given(text=st.sampled_from(DECIDED) | st.integers(0, 99).map("so\nAnswer: {}".format))
def test_an_answer_that_the_text_decides_is_never_asked_for_again(
    sum_problem: Problem, chatml: Chat, strategies: Strategies, text: str
) -> None:
    found, asked = scored(sum_problem, chatml, strategies, text)
    assert len(asked) == 1 and found.ending == ()
    assert found == alone(sum_problem, chatml, strategies, text)


@given(text=st.sampled_from(UNDECIDED), ending=st.sampled_from(ENDINGS))
def test_an_answer_that_never_came_is_asked_for_exactly_once(
    sum_problem: Problem, chatml: Chat, strategies: Strategies, text: str, ending: str
) -> None:
    found, asked = scored(sum_problem, chatml, strategies, text, ending)
    first, forced = asked
    assert (forced.call, forced.attempt, forced.temperature, forced.max_tokens) == (1, 0, 0.0, 12)
    # A model that stops at once says nothing: its likeliest other token is asked for.
    assert (first.min_tokens, forced.min_tokens) == (0, 1)
    [made] = found.ending
    assert (made.call, made.attempt) == (1, 0)
    assert (made.problem_id, made.role, made.strategy) == (
        found.problem_id,
        found.role,
        found.strategy,
    )
    before = alone(sum_problem, chatml, strategies, text)
    said = dataclasses.replace(found, outcome="", score=0.0, answer="", ending=())
    assert said == dataclasses.replace(before, outcome="", score=0.0, answer="")
    assert found.completions == before.completions == ()
    is_decided = ending.startswith((" 9", " 8"))
    assert found.is_forced == is_decided
    if is_decided:
        assert (found.outcome, found.answer) == (
            ("correct", "9") if ending.startswith(" 9") else ("incorrect", "8")
        )
    else:
        assert (found.outcome, found.score) == (before.outcome, before.score)
    assert found.num_completion_tokens == before.num_completion_tokens
    assert found.num_answer_tokens == before.num_completion_tokens + made.num_completion_tokens


@pytest.mark.parametrize("name", ["chatml_dir", "llama_dir"])
@given(text=st.sampled_from(UNDECIDED) | st.text("a\n .", max_size=30))
def test_an_ending_goes_on_from_the_models_own_ids(
    request: pytest.FixtureRequest,
    sum_problem: Problem,
    strategies: Strategies,
    name: str,
    text: str,
) -> None:
    chat = load_chat(str(request.getfixturevalue(name)))
    found, asked = scored(sum_problem, chat, strategies, text)
    if found.ending == ():
        return
    messages = prompt_messages(
        strategies.system_message("step_by_step"), user_text(sum_problem, strategies)
    )
    prompt = encode_prompt(chat, messages)
    own = tuple(token for token in found.token_ids if token not in chat.end_ids)
    forced = asked[-1].prompt_token_ids
    assert forced[: len(prompt) + len(own)] == (*prompt, *own)
    opening = chat.tokenizer.decode(forced[len(prompt) + len(own) :])
    assert opening.strip() == "Answer:" and opening == opening.rstrip()
    assert forced == ending_prompt(chat, prompt, found.token_ids)
    assert len(forced) - len(prompt) - len(own) <= num_ending_ids(chat)
    assert found.ending[0].num_prompt_tokens == len(forced)


def test_ids_that_the_text_would_not_give_again_are_kept(chatml: Chat) -> None:
    pieces = [token for letter in "Answer" for token in encode_text(chatml, letter)]
    assert tuple(pieces) != tuple(encode_text(chatml, "Answer"))
    assert ending_prompt(chatml, (7,), pieces)[: 1 + len(pieces)] == (7, *pieces)


@pytest.mark.parametrize("num_said", [0, 1, 2])
def test_an_ending_of_a_strategy_of_several_calls_continues_its_last_call(
    sum_problem: Problem, chatml: Chat, strategies: Strategies, num_said: int
) -> None:
    further = ("Now answer.", "Check it.")[:num_said]
    several = dataclasses.replace(strategies, further_calls={"extract_generate": further})
    found, asked = scored(
        sum_problem, chatml, several, "I do not know.", strategy="extract_generate"
    )
    *calls, forced = asked
    assert [each.call for each in asked] == list(range(num_said + 2))
    last = calls[-1].prompt_token_ids
    assert forced.prompt_token_ids[: len(last)] == last
    assert found.outcome == "correct" and found.ending[0].call == num_said + 1
    assert all(each.call <= num_said for each in found.completions)


def test_a_call_that_was_cut_short_ends_the_conversation_with_its_ending(
    sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    several = dataclasses.replace(strategies, further_calls={"extract_generate": ("Now?",)})
    budget = dataclasses.replace(WIDE, retry_max_tokens=80)
    found, asked = scored(
        sum_problem, chatml, several, "so " * 300, budget=budget, strategy="extract_generate"
    )
    assert [(each.call, each.attempt) for each in asked] == [(0, 0), (0, 1), (1, 0)]
    own = found.completions[-1].token_ids
    start = len(asked[1].prompt_token_ids)
    assert asked[2].prompt_token_ids[start : start + len(own)] == own
    assert found.is_forced and found.outcome == "correct"


@given(room=st.integers(0, 40))
def test_an_ending_that_does_not_fit_is_not_asked_for(
    sum_problem: Problem, chatml: Chat, strategies: Strategies, room: int
) -> None:
    whole, asked = scored(sum_problem, chatml, strategies, "I have no idea.")
    needed = len(asked[-1].prompt_token_ids) + 12
    tight = dataclasses.replace(WIDE, max_model_len=needed - 20 + room)
    found, _ = scored(sum_problem, chatml, strategies, "I have no idea.", budget=tight)
    if room >= 20:
        assert found == whole
    else:
        assert (found.outcome, found.ending) == ("unparsed", ())


@pytest.mark.parametrize("answer_type", ["open", "summary"])
def test_a_type_without_an_answer_sentence_has_no_ending(
    sum_problem: Problem, chatml: Chat, strategies: Strategies, answer_type: str
) -> None:
    assert answer_type not in ANSWER_SENTENCES
    problem = dataclasses.replace(sum_problem, answer_type=answer_type)
    for text in ("", "so " * 300):
        found, asked = scored(problem, chatml, strategies, text)
        assert len(asked) == 1 and found.ending == ()


@given(text=st.sampled_from(DECIDED + UNDECIDED), ending=st.sampled_from(ENDINGS))
def test_grading_anew_reads_the_ending_only_where_the_text_decides_nothing(
    sum_problem: Problem, chatml: Chat, strategies: Strategies, text: str, ending: str
) -> None:
    found, _ = scored(sum_problem, chatml, strategies, text, ending)
    assert asyncio.run(regraded(sum_problem, found)) == found
    unjudged = dataclasses.replace(found, outcome="ungraded", score=0.25, answer="what")
    assert asyncio.run(regraded(sum_problem, unjudged)) == found


@given(text=st.sampled_from(DECIDED), ending=st.sampled_from(ENDINGS))
def test_an_ending_is_kept_unread_where_a_mended_grader_reads_the_text(
    sum_problem: Problem, chatml: Chat, strategies: Strategies, text: str, ending: str
) -> None:
    older, _ = scored(sum_problem, chatml, strategies, "I have no idea.", ending)
    now = alone(sum_problem, chatml, strategies, text)
    stored = dataclasses.replace(now, ending=older.ending, outcome="unparsed", answer="")
    again = asyncio.run(regraded(sum_problem, stored))
    assert again.ending == older.ending and not again.is_forced
    assert (again.outcome, again.score, again.answer) == (now.outcome, now.score, now.answer)
    assert again.num_answer_tokens == now.num_answer_tokens
    assert asyncio.run(regraded(sum_problem, again)) == again


class Mute(ScriptedEngine):
    """An engine whose requests are all given up."""

    async def generate(self, request: Request) -> Completion:
        from orca2_gen.engine import cut_off

        return cut_off(request)


def test_requests_that_were_given_up_leave_a_truncated_cell(
    sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    found = asyncio.run(
        score(
            sum_problem,
            "step_by_step",
            role="student",
            engine=Mute(chatml, lambda request: ""),
            chat=chatml,
            strategies=strategies,
            budget=WIDE,
        )
    )
    assert found.outcome == "truncated" and len(found.ending) == 1 and not found.is_forced


@given(
    thought=st.sampled_from(["Let us see.", "so " * 40, ""]),
    closed=st.booleans(),
    again=st.sampled_from([None, "9", "8"]),
)
def test_an_open_thought_is_closed_before_the_answer_is_asked_for(
    sum_problem: Problem,
    think_dir: Path,
    strategies: Strategies,
    thought: str,
    closed: bool,
    again: str | None,
) -> None:
    chat = load_chat(str(think_dir))
    begin, end = (chat.tokenizer.convert_tokens_to_ids(t) for t in ("<think>", "</think>"))
    said = [begin, *encode_text(chat, thought), *([end] if closed else [])]
    second = [begin, *encode_text(chat, "Answer: 7"), end] if again is not None else []
    asked: list[Request] = []

    def script(request: Request) -> list[int]:
        asked.append(request)
        return [*second, *encode_text(chat, f" {again or 9}")] if request.call else said

    found = asyncio.run(
        score(
            sum_problem,
            "step_by_step",
            role="student",
            engine=ScriptedEngine(chat, script),
            chat=chat,
            strategies=strategies,
            budget=dataclasses.replace(WIDE, max_tokens=30, answer_max_tokens=40),
        )
    )
    prompt = asked[0].prompt_token_ids
    own = asked[1].prompt_token_ids[len(prompt) :]
    assert own.count(begin) == own.count(end) == 1
    kept = tuple(token for token in found.token_ids if token not in chat.end_ids)
    assert own[: len(kept)] == kept
    assert len(own) - len(kept) <= num_ending_ids(chat)
    assert chat.tokenizer.decode(own).endswith("\nAnswer:")
    assert (found.outcome == "correct") == (again != "8") and found.is_forced
