from __future__ import annotations

import copy
import dataclasses
import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orca2_gen.chat import Chat
from orca2_gen.dataset.instruction_search import instruction_search
from orca2_gen.dataset.template_texts import row_texts, template_traces
from orca2_gen.preflight.instructions import check_erasable
from orca2_gen.records import Message
from orca2_gen.strategies import load_strategies
from tests.chat.conversations import rendered
from tests.dataset.batches import proof_over
from tests.dataset.test_instruction_search import SEARCH, own_runs, written
from tests.test_erasure import erased, rationale_of

OWN = load_strategies(None)
PLACE = "zqHEREqz"
_TAG = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)


def with_template(chat: Chat, template: str) -> Chat:
    """The model with another template."""
    tokenizer = copy.copy(chat.tokenizer)
    tokenizer.chat_template = template
    return dataclasses.replace(chat, tokenizer=tokenizer, shapes={}, segments={})


def places(template: str) -> list[int]:
    """Where text can be written into a template, outside of its tags."""
    inside = {n for tag in _TAG.finditer(template) for n in range(tag.start() + 1, tag.end())}
    return [place for place in range(len(template) + 1) if place not in inside]


def is_refused(chat: Chat) -> bool:
    try:
        check_erasable("student.model", chat, OWN, keeps_thoughts=False)
    except ValueError as error:
        assert "\n" not in str(error) and chat.directory in str(error)
        return True
    return False


def row_of(chat: Chat) -> list[Message]:
    rationale = rationale_of(OWN)
    said = {"system": OWN.cautious_message, "user": rationale.user, "assistant": rationale.text}
    return [Message(role=role, content=text) for role, text in said.items()]


def test_no_template_of_the_collection_writes_an_instruction(shape_chat: Chat) -> None:
    texts = row_texts(shape_chat, OWN.cautious_message)
    assert not template_traces(shape_chat, texts, instruction_search(OWN))
    assert not is_refused(shape_chat)
    assert proof_over([erased(shape_chat, OWN, rationale_of(OWN))], chat=shape_chat, strategies=OWN)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_words_of_an_instruction_anywhere_in_a_template_break_the_proof_and_are_refused_first(
    shape_chat: Chat, data: st.DataObject
) -> None:
    template = str(shape_chat.tokenizer.chat_template)
    place = data.draw(st.sampled_from(places(template)), label="place")
    row = row_of(shape_chat)
    try:
        marked = with_template(shape_chat, f"{template[:place]} {PLACE} {template[place:]}")
        in_prompt = PLACE in rendered(marked, row[:-1])
        is_written = in_prompt or PLACE in rendered(marked, row)
        run = data.draw(own_runs.flatmap(written), label="run").replace("{", "")
        chat = with_template(shape_chat, f"{template[:place]} {run} {template[place:]}")
        example = erased(chat, OWN, rationale_of(OWN))
    except Exception as error:  # such a place breaks the template itself
        if type(error) is AssertionError:
            raise
        return
    proof = proof_over([example], chat=chat, strategies=OWN)
    assert proof.num_proved == 1  # the ids alone would prove it
    if in_prompt:
        assert not proof.holds and is_refused(chat)
    if not is_written:
        assert proof.holds and not is_refused(chat)


def test_marks_between_the_words_hide_nothing(chatml: Chat) -> None:
    run = next(iter(SEARCH.told["step_by_step"]))
    template = str(chatml.tokenizer.chat_template)
    for between in ("<|im_end|>", " <|im_start|> ", " [INST] ", "<|x|>", " </s> "):
        chat = with_template(chatml, between.join(run) + template)
        assert is_refused(chat), between
