"""A template's text is pinned: by the day of the run, by the config's arguments, by its policy."""

from __future__ import annotations

import datetime
import json
import pickle
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils import chat_template_utils

from orca2_gen.chat import (
    Chat,
    Rendering,
    TemplateError,
    encode_conversation,
    encode_prompt,
    load_chat,
    rendered_texts,
    shape_of,
)
from orca2_gen.records import Message
from tests.conftest import CHATML, byte_level_bpe, write_tokenizer

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CLOCKS = {
    "at the top": '{{ "<|im_start|>system\nToday is " + strftime_now("%d %B %Y") }}' + TURNS,
    "if it is defined": (
        "{% if date_string is not defined %}{% if strftime_now is defined %}"
        '{% set date_string = strftime_now("%d %b %Y") %}{% endif %}{% endif %}'
        "{{ date_string }}" + TURNS
    ),
    "in a macro": (
        '{% macro today() %}{{ strftime_now("%Y-%m-%d") }}{% endmacro %}{{ today() }}' + TURNS
    ),
    "in a namespace": (
        '{% set ns = namespace(day="") %}{% for m in messages %}'
        '{% set ns.day = strftime_now("%A") %}{% endfor %}{{ ns.day }}' + TURNS
    ),
    "of the day only": '{{ strftime_now("%H:%M:%S %f") }}' + TURNS,
}
# As of Mistral Small 3: the date stands in the template's own system text only.
DATED_OWN_SYSTEM = (
    '{% set own = "It is " + strftime_now("%Y-%m-%d") %}<|im_start|>system\n'
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% set turns = messages[1:] %}"
    "{% else %}{{ own }}{% set turns = messages %}{% endif %}<|im_end|>\n"
) + TURNS.replace("in messages", "in turns")
OWN_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are Own.<|im_end|>\n{% endif %}"
    + TURNS
)
NO_EMPTY_SYSTEM = (
    "{% if messages[0].role != 'system' or not messages[0].content %}"
    "<|im_start|>system\nYou are Own.<|im_end|>\n{% endif %}"
    "{% for m in messages if m.content %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + (
    TURNS
)
# As of Mistral 7B v0.3 and Nemo: the system text joins the last message if that is the user's.
LAST_SYSTEM = (
    "{% if messages[0].role == 'system' %}{% set system, turns = messages[0].content, messages[1:] "
    "%}{% else %}{% set turns = messages %}{% endif %}{% for m in turns %}"
    "{% if m.role == 'user' %}<|im_start|>"
    "{% if loop.last and system is defined %}{{ system + '\n\n' }}{% endif %}"
    "{{ m.content }}<|im_end|>{% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)
THINKING = TURNS + "{% if enable_thinking is defined and not enable_thinking %}<think>{% endif %}"
days = st.dates(datetime.date(2000, 1, 1), datetime.date(2099, 12, 31)).map(str)
PROMPT = (Message(role="system", content="Be careful."), Message(role="user", content="2 + 3?"))
ROW = (*PROMPT, Message(role="assistant", content="5"))
ROLES = (("user",), ("system", "user"), ("system", "user", "assistant"))


def chat_of(folder: Path, template: str, **rendering: str) -> Chat:
    if not (folder / "tokenizer.json").exists():
        write_tokenizer(folder, byte_level_bpe(), template, eos_token="<|im_end|>")
    return load_chat.__wrapped__(str(folder), Rendering(**rendering))  # type: ignore[arg-type]


def decoded(chat: Chat, ids: tuple[int, ...]) -> str:
    text: str = chat.tokenizer.decode(list(ids), skip_special_tokens=False)
    return text


def set_today(monkeypatch: pytest.MonkeyPatch, day: str) -> None:
    """Lets transformers' own `strftime_now` say that it is this day."""
    now = datetime.datetime.fromisoformat(f"{day}T17:45:12.000345")
    monkeypatch.setattr(chat_template_utils, "datetime", SimpleNamespace(now=lambda: now))


@pytest.mark.parametrize("template", CLOCKS.values(), ids=CLOCKS)
def test_ids_and_digest_are_the_same_on_any_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    found = set()
    for day in ("2024-02-29", "2026-11-30", "2031-01-01"):
        set_today(monkeypatch, day)
        chat = chat_of(tmp_path, template, date="2025-03-04")
        ids, num_prompt_tokens = encode_conversation(chat, ROW)
        assert ids[:num_prompt_tokens] == encode_prompt(chat, PROMPT)
        found.add((ids, chat.digest, json.dumps(rendered_texts(chat, ROLES))))
    assert len(found) == 1


@pytest.mark.parametrize("template", CLOCKS.values(), ids=CLOCKS)
def test_a_template_shows_the_date_of_its_rendering_as_it_would_show_that_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    midnight = datetime.datetime(2025, 3, 4)
    monkeypatch.setattr(chat_template_utils, "datetime", SimpleNamespace(now=lambda: midnight))
    chat = chat_of(tmp_path, template, date="2025-03-04")
    turns = [{"role": m.role, "content": m.content} for m in PROMPT]
    wanted = chat.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert decoded(chat, encode_prompt(chat, PROMPT)) == wanted


@given(one=days, other=days)
def test_the_digest_depends_on_the_day_where_the_text_does_and_only_there(
    tmp_path_factory: pytest.TempPathFactory, one: str, other: str
) -> None:
    root = tmp_path_factory.getbasetemp()
    for template, depends in ((CLOCKS["in a macro"], True), (CHATML, False)):
        folder = root / f"digest-{depends}"
        chats = [chat_of(folder, template, date=day) for day in (one, other)]
        assert (chats[0].digest == chats[1].digest) == (one == other or not depends)
        assert all(bool(rendered_texts(chat, ROLES)) == depends for chat in chats)


@pytest.mark.parametrize("roles", [*ROLES, ("user", "assistant")])
def test_a_date_that_no_conversation_of_a_run_shows_is_no_part_of_its_digest(
    tmp_path: Path, roles: tuple[str, ...]
) -> None:
    texts = set()
    for date in ("2024-02-29", "2026-11-30"):
        chat = chat_of(tmp_path, DATED_OWN_SYSTEM, date=date)
        assert "template_date" not in rendered_texts(chat, [roles])
        texts.add(shape_of(chat, roles).texts)
    assert len(texts) == 1 and "It is" not in "".join(texts.pop())


def test_a_date_that_only_chooses_a_text_is_part_of_the_digest(tmp_path: Path) -> None:
    late = "{% if strftime_now('%Y') | int >= 2030 %}LATE{% endif %}" + TURNS
    chats = [chat_of(tmp_path, late, date=date) for date in ("2026-11-30", "2031-01-01")]
    assert chats[0].digest != chats[1].digest
    assert all(rendered_texts(chat, ROLES)["template_date"] for chat in chats)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_seconds_and_the_clock_itself_are_the_same_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    shown = "{{ strftime_now('%s %%s') }} {{ strftime_now }}"
    chat = chat_of(tmp_path, shown + TURNS, date="2026-11-30")
    text = "".join(shape_of(chat, ("user",)).texts)
    monkeypatch.undo()
    time.tzset()
    assert text.startswith("1795996800 %s strftime_now")


def test_a_template_that_is_not_the_same_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="differently each time; use one without random"):
        shape_of(chat_of(tmp_path, "{{ range(100000) | random }}" + TURNS), ("user",))


@pytest.mark.parametrize("template", [OWN_SYSTEM, DATED_OWN_SYSTEM], ids=["own", "dated own"])
def test_a_folded_conversation_has_no_system_text_of_the_templates_own(
    tmp_path: Path, template: str
) -> None:
    chat = chat_of(tmp_path, template, system="fold")
    for roles in ROLES[1:]:
        shape = shape_of(chat, roles)
        assert shape.own_system and not shape.has_own_system
        assert shape.texts[:2] == ("<|im_start|>system\n<|im_end|>\n<|im_start|>user\n", "\n\n")


@pytest.mark.parametrize(
    "fields",
    [
        {"date": "9999-12-31"},
        {"date": "garbage"},
        {"date": "2025-W10-2"},
        {"arguments": "3"},
        {"arguments": "{"},
        {"arguments": "[" * 100_000},
    ],
)
def test_a_rendering_of_no_day_or_no_arguments_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        Rendering(**fields)  # type: ignore[arg-type]


def test_an_error_of_a_template_travels_between_processes() -> None:
    error = TemplateError("a", "b", True)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.can_fold) == ("a; b", True)


def test_arguments_reach_every_rendering_and_the_digest(tmp_path: Path) -> None:
    plain, without = (
        chat_of(tmp_path, THINKING, arguments=arguments)
        for arguments in ("{}", '{"enable_thinking": false}')
    )
    assert decoded(without, encode_prompt(without, PROMPT)) == (
        decoded(plain, encode_prompt(plain, PROMPT)) + "<think>"
    )
    assert plain.digest != without.digest
    about = rendered_texts(without, ROLES)
    assert about["template_arguments"] == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"enable_thinkin": False}, "does not read enable_thinkin"),
        ({"messages": []}, "sets messages"),
        ({"add_generation_prompt": False}, "sets add_generation_prompt"),
        ({"strftime_now": "x"}, "sets strftime_now"),
        ({"eos_token": "x"}, "sets eos_token"),
        ({"tokenize": True}, "sets tokenize"),
        ({"pad_token": "x"}, "sets pad_token"),
        ({"a\nb": 1}, r"does not read 'a\\nb'"),
    ],
)
def test_an_argument_that_is_none_of_the_templates_own_is_refused_by_name(
    tmp_path: Path, arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        encode_prompt(chat_of(tmp_path, THINKING, arguments=json.dumps(arguments)), PROMPT)
    assert str(tmp_path) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("roles", [("user",), ("user", "assistant"), ("user", "assistant", "user")])
def test_a_prompt_without_system_text_has_none_of_the_templates_own(
    tmp_path: Path, roles: tuple[str, ...]
) -> None:
    chat = chat_of(tmp_path, OWN_SYSTEM)
    shape = shape_of(chat, roles)
    assert shape.own_system == "You are Own." and not shape.has_own_system
    assert "Own" not in "".join(shape.texts)
    assert shape.texts[0] == "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n"
    assert rendered_texts(chat, [roles]) and not rendered_texts(chat, [("system", *roles)])


def test_own_text_that_an_empty_system_message_does_not_keep_out_stays(tmp_path: Path) -> None:
    chat = chat_of(tmp_path, NO_EMPTY_SYSTEM)
    shape = shape_of(chat, ("user",))
    assert shape.own_system == "You are Own." and shape.has_own_system
    assert "You are Own." in shape.texts[0] and shape.is_plain


@pytest.mark.parametrize("template", [NO_SYSTEM, LAST_SYSTEM], ids=["no system", "last system"])
@pytest.mark.parametrize("roles", [*ROLES[1:], ("system", "user", "assistant", "user")])
def test_a_folded_system_text_stands_before_the_first_user_text_in_prompt_and_row_alike(
    tmp_path: Path, template: str, roles: tuple[str, ...]
) -> None:
    chat = chat_of(tmp_path, template, system="fold")
    texts = [f"text {index}" for index in range(len(roles))]
    told = [Message(role=r, content=text) for r, text in zip(roles, texts, strict=True)]  # type: ignore[arg-type]
    folded = [Message(role="user", content=f"{texts[0]}\n\n{texts[1]}"), *told[2:]]
    turns = [{"role": m.role, "content": m.content} for m in folded]
    is_row = roles[-1] == "assistant"
    wanted = chat.tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=not is_row
    )
    ids = encode_conversation(chat, told)[0] if is_row else encode_prompt(chat, told)
    assert wanted.startswith(decoded(chat, ids))
    assert rendered_texts(chat, [roles])["system"] == "fold"


@pytest.mark.parametrize(
    ("template", "roles"),
    [(NO_SYSTEM, ("system", "user")), (LAST_SYSTEM, ("system", "user", "assistant"))],
)
def test_a_template_without_a_system_role_is_refused_with_the_key_that_helps(
    tmp_path: Path, template: str, roles: tuple[str, ...]
) -> None:
    chat = chat_of(tmp_path, template)
    with pytest.raises(ValueError, match='system = "fold"') as refused:
        shape_of(chat, roles)
    assert str(refused.value).startswith(str(tmp_path)) and "\n" not in str(refused.value)


def test_a_template_that_a_fold_does_not_help_is_refused_without_that_key(tmp_path: Path) -> None:
    template = "{% for m in messages | reverse %}{{ m.content }}{% endfor %}"
    chat = chat_of(tmp_path, template)
    with pytest.raises(ValueError, match="use another template"):
        shape_of(chat, ("system", "user", "assistant", "user"))
