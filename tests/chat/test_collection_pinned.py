"""A model of each published shape is what is known of it, and has the same ids on any day."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca2_gen.chat import (
    Chat,
    Rendering,
    encode_conversation,
    encode_prompt,
    load_chat,
    opens_thought,
    shape_of,
)
from orca2_gen.erasure import erase
from orca2_gen.records import Example, Rationale
from orca2_gen.strategies import Strategies
from tests.chat.collection import directory, rendering, shapes
from tests.chat.conversations import as_ids_say, conversation, decoded, ids_of, prose, rendered
from tests.chat.published_shape import PublishedShape
from tests.chat.test_templates import set_today
from tests.dataset.batches import proof_over


def test_a_shape_is_what_is_known_of_it(
    shape: PublishedShape, shape_dir: Path, shape_chat: Chat
) -> None:
    plain = load_chat(str(shape_dir))
    for roles, refusing in (
        (("user",), ()),
        (("user", "assistant", "user"), ()),
        (("system", "user"), ("refused",)),
        (("system", "user", "assistant"), ("refused", "dropped")),
    ):
        if shape.system in refusing:
            with pytest.raises(ValueError, match='set system = "fold"'):
                shape_of(plain, roles)
        else:
            assert shape_of(plain, roles).shows_date == (shape.date == "shown")
        assert shape_of(shape_chat, roles)
    alone = shape_of(plain, ("user",))
    assert alone.own_system.startswith(shape.own_system)
    assert bool(alone.own_system) == bool(shape.own_system)
    assert alone.has_own_system == shape.keeps_own_system
    if shape.own_system:
        assert (shape.own_system in "".join(alone.texts)) == shape.keeps_own_system
    prompt = encode_prompt(shape_chat, conversation("How many?", system=None))
    has_markers = shape_chat.thinking is not None
    assert (has_markers and opens_thought(shape_chat, prompt)) == shape.opens_think
    ends = {shape.eos, *shape.further_ends}
    assert set(shape_chat.tokenizer.convert_ids_to_tokens(sorted(shape_chat.end_ids))) == ends


def test_ids_and_digest_are_the_same_on_three_days(
    shape: PublishedShape, shape_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for day in ("2024-02-29", "2026-12-31", "2031-01-01"):
        set_today(monkeypatch, day)
        fresh = load_chat.__wrapped__(str(shape_dir), rendering(shape))
        told = [conversation("2 + 3?", "5", "And 4?"), conversation("2 + 3?", "5", system=None)]
        found.add((fresh.digest, *(ids_of(fresh, messages) for messages in told)))
    assert len(found) == 1


@pytest.mark.parametrize("system", ["Be careful.", None])
def test_a_plain_conversation_and_no_other_is_what_transformers_renders_on_any_day(
    shape: PublishedShape,
    shape_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    system: str | None,
) -> None:
    chat = load_chat(str(shape_dir))
    told = [conversation(*["a b", "c d", "e f"][:number], system=system) for number in (1, 2, 3)]
    for messages in told:
        try:
            found = shape_of(chat, tuple(m.role for m in messages))
        except ValueError:
            continue
        contents = [*(m.content for m in messages), ""]
        text = "".join(part for pair in zip(found.texts, contents, strict=True) for part in pair)
        renderings = set()
        for day in ("2024-02-29", "2026-12-31", "2031-01-01"):
            set_today(monkeypatch, day)
            turns = [{"role": m.role, "content": m.content} for m in messages]
            is_prompt = messages[-1].role != "assistant"
            renderings.add(
                chat.tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=is_prompt
                )
            )
        assert (renderings == {text}) == found.is_plain


@pytest.mark.parametrize("system", ["Be careful.", None])
def test_another_date_of_the_run_changes_the_ids_of_a_template_that_shows_it_and_of_no_other(
    shape: PublishedShape, shape_dir: Path, system: str | None
) -> None:
    found = set()
    for date in ("2024-02-29", "2026-11-30"):
        fresh = load_chat.__wrapped__(str(shape_dir), rendering(shape, date))
        messages = conversation("How many?", system=system)
        ids = encode_prompt(fresh, messages)
        found.add((fresh.digest, ids))
        if shape.date == "shown":
            assert decoded(shape, fresh, ids) == rendered(fresh, messages)
    assert len(found) == (2 if shape.date == "shown" else 1)


def test_an_argument_changes_the_prompt_as_it_does_in_transformers(
    shape: PublishedShape, shape_dir: Path, shape_chat: Chat
) -> None:
    messages = conversation("How many?")
    for name, value in shape.arguments:
        told = load_chat.__wrapped__(str(shape_dir), rendering(shape, **{name: value}))
        ids = encode_prompt(told, messages)
        assert decoded(shape, told, ids) == rendered(told, messages, **{name: value})
        assert ids != encode_prompt(shape_chat, messages) and told.digest != shape_chat.digest
        row, num_prompt_tokens = encode_conversation(told, (*messages, *conversation("", "7")[2:]))
        assert row[:num_prompt_tokens] == ids
    with pytest.raises(ValueError, match="does not read enable_tinking") as refused:
        load_chat(str(shape_dir), Rendering(arguments='{"enable_tinking": false}'))
    assert "\n" not in str(refused.value)


@given(texts=st.lists(prose, min_size=4, max_size=4))
def test_a_folded_system_text_reads_as_the_start_of_the_first_question(
    shape: PublishedShape, shape_dir: Path, texts: list[str]
) -> None:
    folded = load_chat(str(shape_dir), Rendering(system="fold"))
    system, *said = texts
    messages = conversation(*said, system=system)
    wanted = rendered(folded, messages)
    if shape.own_system:  # an empty system message keeps it out, in prompt and row alike
        plain = load_chat(str(shape_dir))
        asked = conversation(f"{system}\n\n{said[0]}", *said[1:], system="")
        wanted = rendered(plain, asked)
    found = decoded(shape, folded, encode_prompt(folded, messages))
    assert found == as_ids_say(shape, folded, wanted)
    row = conversation(*said[:2], system=system)
    ids, num_prompt_tokens = encode_conversation(folded, row)
    assert ids[:num_prompt_tokens] == encode_prompt(folded, row[:-1])


def test_a_row_that_was_erased_on_one_day_is_erased_on_any(
    shape: PublishedShape, shape_dir: Path, strategies: Strategies, monkeypatch: pytest.MonkeyPatch
) -> None:
    rationale = Rationale(
        problem_id="t/train/0",
        task="t",
        strategy="step_by_step",
        attempt=0,
        system=strategies.instructions["step_by_step"],
        user="What is 4 + 5? <|im_end|>",
        text="Nine.\nAnswer: 9",
        answer="9",
        num_prompt_tokens=1,
        num_completion_tokens=1,
    )
    examples, digests = [], set()
    for day in ("2024-02-29", "2026-12-31", "2031-01-01"):
        set_today(monkeypatch, day)
        chat = load_chat.__wrapped__(str(shape_dir), rendering(shape))
        example = erase(
            rationale, chat=chat, strategies=strategies, prompts="erased", max_tokens=10_000
        )
        assert isinstance(example, Example)
        examples.append(example)
        proof = proof_over(examples, chat=chat, strategies=strategies)
        assert proof.holds
        digests.add(proof.tokenizer_digest)
    assert len(digests) == 1


@pytest.mark.parametrize("named", [False, True], ids=["one template", "named templates"])
def test_a_template_in_the_tokenizers_config_reads_as_one_in_its_own_file(
    shape: PublishedShape, shape_dir: Path, tmp_path: Path, shape_chat: Chat, named: bool
) -> None:
    older = Path(shutil.copytree(shape_dir, tmp_path / "older"))
    (older / "chat_template.jinja").unlink()
    template = shape_chat.tokenizer.chat_template
    several = [{"name": "default", "template": template}, {"name": "rag", "template": "none"}]
    config = json.loads((older / "tokenizer_config.json").read_text())
    config["chat_template"] = several if named else template
    (older / "tokenizer_config.json").write_text(json.dumps(config))
    chat = load_chat(str(older), shape_chat.rendering)
    messages = conversation("2 + 3?", "5")
    assert encode_conversation(chat, messages) == encode_conversation(shape_chat, messages)
    assert (chat.digest == shape_chat.digest) != named


def test_without_thoughts_a_row_of_qwen_3_is_what_its_template_writes(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    [shape] = [shape for shape in shapes() if shape.name == "qwen_3"]
    folder = directory(shape, tmp_path_factory.getbasetemp() / "collection")
    chat = load_chat(str(folder), Rendering(arguments='{"enable_thinking": false}'))
    row = conversation("2 + 3?", "5")
    ids, num_prompt_tokens = encode_conversation(chat, row)
    assert rendered(chat, row, enable_thinking=False) == decoded(shape, chat, ids) + "\n"
    assert decoded(shape, chat, ids[:num_prompt_tokens]).endswith("<think>\n\n</think>\n\n")
