from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.calls import Answer, Budget, ask, compose
from orca2_gen.chat import Chat, encode_prompt, encode_text, load_chat, template_ids
from orca2_gen.engine import Engine, Request, cut_off
from orca2_gen.prompts import prompt_messages, user_text
from orca2_gen.records import Completion, Message, Problem
from orca2_gen.scripted_engine import ScriptedEngine
from orca2_gen.strategies import Strategies
from tests.chat.collection import directory, shapes
from tests.test_lengths import unigram

Script = Callable[[Request], str | Sequence[int]]
WIDE = Budget(max_tokens=60, max_model_len=4096)
SAID_NEXT = ("Now answer from these lines alone.", "Check it once more.")


def with_calls(strategies: Strategies, said_next: Sequence[str] = SAID_NEXT) -> Strategies:
    return dataclasses.replace(strategies, further_calls={"extract_generate": tuple(said_next)})


def asked(
    problem: Problem,
    chat: Chat,
    strategies: Strategies,
    script: Script,
    budget: Budget = WIDE,
    engine: Engine | None = None,
) -> tuple[Answer, list[Request]]:
    requests: list[Request] = []

    def noted(request: Request) -> str | Sequence[int]:
        requests.append(request)
        return script(request)

    answer = asyncio.run(
        ask(
            problem,
            "extract_generate",
            role="student",
            engine=engine or ScriptedEngine(chat, noted),
            chat=chat,
            strategies=strategies,
            budget=budget,
        )
    )
    return answer, requests


def test_a_strategy_of_one_call_is_its_completion_and_nothing_besides(
    sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    answer, [request] = asked(sum_problem, chatml, strategies, lambda r: "Answer: 9")
    assert answer.completions == () and answer.completion.text == "Answer: 9"
    assert (request.call, request.attempt, request.temperature) == (0, 0, 0.0)


@given(num_words=st.integers(0, 60), larger=st.none() | st.integers(1, 80))
def test_a_second_attempt_is_made_exactly_if_all_tokens_were_taken_and_there_are_more(
    sum_problem: Problem,
    chatml: Chat,
    strategies: Strategies,
    num_words: int,
    larger: int | None,
) -> None:
    budget = Budget(max_tokens=30, max_model_len=4096, retry_max_tokens=larger)
    text = "so " * num_words + "Answer: 9"
    answer, requests = asked(sum_problem, chatml, strategies, lambda r: text, budget)
    is_cut = len(encode_text(chatml, text)) >= 30
    expected = [(0, 30), (1, larger)] if is_cut and larger and larger > 30 else [(0, 30)]
    assert [(r.attempt, r.max_tokens) for r in requests] == expected
    assert len({r.prompt_token_ids for r in requests}) == 1
    assert answer.completion.attempt == len(requests) - 1
    assert len(answer.completions) == (0 if len(requests) == 1 else 2)


def test_what_was_cut_off_for_its_time_is_not_asked_again(
    sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    class Slow(ScriptedEngine):
        num_asked = 0

        async def generate(self, request: Request) -> Completion:
            self.num_asked += 1
            return cut_off(request)

    engine = Slow(chatml, lambda r: "")
    budget = dataclasses.replace(WIDE, retry_max_tokens=600)
    answer, _ = asked(sum_problem, chatml, strategies, lambda r: "", budget, engine)
    assert (engine.num_asked, answer.completion.finish_reason) == (1, "length")


def test_each_further_call_goes_on_in_the_same_conversation(
    sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    texts = ["four and five", "Answer: 8", "No.\nAnswer: 9"]
    several = with_calls(strategies)
    answer, requests = asked(sum_problem, chatml, several, lambda r: texts[r.call])
    messages = list(
        prompt_messages(several.instructions["extract_generate"], user_text(sum_problem, several))
    )
    for call, request in enumerate(requests):
        assert request.call == call
        assert request.prompt_token_ids == encode_prompt(chatml, messages)
        messages.append(Message(role="assistant", content=texts[call]))
        messages += [Message(role="user", content=said) for said in SAID_NEXT[call : call + 1]]
    assert len({request.request_id for request in requests}) == len(requests) == 3
    assert answer.completion.text == "four and five\n\nAnswer: 8\n\nNo.\nAnswer: 9"
    assert [c.text for c in answer.completions] == texts
    assert answer.completion == compose(answer.completions)
    assert answer.completion.num_prompt_tokens == sum(len(r.prompt_token_ids) for r in requests)
    assert answer.completion.num_completion_tokens == sum(
        c.num_completion_tokens for c in answer.completions
    )


def test_a_call_that_does_not_end_by_itself_ends_the_conversation(
    sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    texts = ["four and five", "so " * 200, "Answer: 9"]
    answer, requests = asked(sum_problem, chatml, with_calls(strategies), lambda r: texts[r.call])
    assert len(requests) == 2 and answer.completion.finish_reason == "length"


def test_only_the_call_that_was_cut_short_is_asked_again(
    sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    texts = ["four and five", "so " * 40 + "nine", "Answer: 9"]
    budget = dataclasses.replace(WIDE, max_tokens=40, retry_max_tokens=200)
    answer, requests = asked(
        sum_problem, chatml, with_calls(strategies), lambda r: texts[r.call], budget
    )
    assert [(r.call, r.attempt) for r in requests] == [(0, 0), (1, 0), (1, 1), (2, 0)]
    assert answer.completion.text == "\n\n".join(texts)
    assert answer.completion.attempt == 1
    assert len(answer.completions) == 4


def test_a_text_that_no_prompt_may_hold_ends_the_conversation(
    tmp_path: Path, sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    chat = load_chat(str(unigram(tmp_path)))  # its model reads `</s>` in a text as the end token
    engine = ScriptedEngine(chatml, lambda r: "the end</s>")
    answer, _ = asked(sum_problem, chat, with_calls(strategies), lambda r: "", WIDE, engine)
    assert answer.completion.finish_reason == "unencodable"
    assert answer.completion.text == "the end</s>"


@pytest.mark.parametrize("spare", [0, -1])
def test_a_further_call_is_made_only_where_prompt_and_answer_fit(
    sum_problem: Problem, chatml: Chat, strategies: Strategies, spare: int
) -> None:
    several = with_calls(strategies, SAID_NEXT[:1])
    _, requests = asked(sum_problem, chatml, several, lambda r: "nine")
    longest = len(requests[1].prompt_token_ids) + WIDE.max_tokens
    budget = dataclasses.replace(WIDE, max_model_len=longest + spare)
    answer, requests = asked(sum_problem, chatml, several, lambda r: "nine", budget)
    assert len(requests) == (2 if spare == 0 else 1)
    assert answer.completion.finish_reason == ("stop" if spare == 0 else "length")


@pytest.fixture(scope="session")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    """A model that thinks between tokens of its own."""
    [shape] = [shape for shape in shapes() if shape.name == "qwen_3"]
    return load_chat(str(directory(shape, tmp_path_factory.getbasetemp() / "collection")))


def thought_of(chat: Chat, words: int) -> list[int]:
    """Ids of an opened thought of this many words; each is one token or more."""
    return [*template_ids(chat, "<think>\n"), *encode_text(chat, " so" * words)]


@given(num_words=st.integers(0, 40), limit=st.integers(4, 59))
def test_a_thought_takes_no_more_than_its_tokens_and_the_answer_follows_it(
    sum_problem: Problem, thinker: Chat, strategies: Strategies, num_words: int, limit: int
) -> None:
    ending = [*template_ids(thinker, "\n</think>\n\n"), *encode_text(thinker, "Answer: 9")]
    whole = [*thought_of(thinker, num_words), *ending]
    closed = template_ids(thinker, "\n</think>\n\n")

    def script(request: Request) -> Sequence[int]:
        prompt = list(request.prompt_token_ids)
        if prompt[-len(closed) :] == list(closed):  # its thought was closed
            return encode_text(thinker, "Answer: 9")
        begun = next((n for n in range(len(whole), 0, -1) if prompt[-n:] == whole[:n]), 0)
        return whole[begun:]

    budget = Budget(max_tokens=100, max_model_len=4096, thinking_tokens=limit)
    answer, requests = asked(sum_problem, thinker, strategies, script, budget)
    made = answer.completion
    assert made.text == "Answer: 9" and made.finish_reason == "stop"
    end = thinker.tokenizer.convert_tokens_to_ids("</think>")
    assert len(requests) == (2 if len(whole) >= limit else 1)
    assert made.is_thought_cut == (len(whole) >= limit and end not in whole[:limit])
    # The closing counts too, so that a planned length holds.
    assert len(made.token_ids) <= budget.max_tokens
    first = requests[0].prompt_token_ids
    assert all(
        len(r.prompt_token_ids) + r.max_tokens <= len(first) + budget.max_tokens for r in requests
    )
    assert ("so " * 50).startswith(made.reasoning)
    assert not answer.has_stray_marker


def test_a_model_that_does_not_think_is_not_cut(
    sum_problem: Problem, chatml: Chat, strategies: Strategies
) -> None:
    budget = dataclasses.replace(WIDE, thinking_tokens=2)
    answer, [request] = asked(sum_problem, chatml, strategies, lambda r: "I see. Answer: 9", budget)
    assert request.max_tokens == WIDE.max_tokens
    assert not answer.completion.is_thought_cut
