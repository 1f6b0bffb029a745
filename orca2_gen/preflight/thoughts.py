"""Have the models whose thoughts are kept or cut the markers for it?"""

from __future__ import annotations

from orca2_gen.chat import Chat, shape_of
from orca2_gen.chat.rows import answer_texts, begins_thought
from orca2_gen.chat.templates import REASONING
from orca2_gen.config.schema import RationalesConfig


def check_thinking_tokens(section: str, limit: int | None, chat: Chat) -> None:
    """Checks that a limit of thoughts has something to limit.

    Raises:
        ValueError: the model has no markers for a thought.
    """
    if limit is not None and chat.thinking is None:
        raise ValueError(
            f"{section}.thinking_tokens: neither template nor tokenizer of {chat.directory} has "
            f"markers for a thought, so none could be cut; declare them as {section}.thinking, or "
            "remove the key"
        )


def check_kept_thoughts(key: str, rationales: RationalesConfig, chat: Chat, system: bool) -> None:
    """Checks that a training row of the student can hold the thoughts that the config keeps.

    Args:
        key: the key of the student's directory.
        rationales: the section that says what becomes of thoughts.
        chat: the student's.
        system: whether a row has a system message.

    Raises:
        ValueError: it cannot.
    """
    if rationales.thoughts != "keep":
        return
    if chat.thinking is None:
        raise ValueError(
            f"{key}: {chat.directory} has no markers for a thought, and rationales.thoughts is "
            f'"keep"; set it to "drop" to train answers alone, or declare student.thinking'
        )
    asked = ("system", "user") if system else ("user",)
    texts = answer_texts(chat, (*asked, REASONING, "assistant"))
    prompt = shape_of(chat, asked).texts[-1]
    begun, ending = prompt + texts.opening, chat.thinking.ending
    # Where a thought is a message, its end alone is that of any message.
    is_known = chat.thinking.opening.strip() in prompt or not chat.thinking.further
    is_closed = is_known and ending.strip() in prompt
    if begins_thought(begun, chat.thinking.opening, ending) and not is_closed:
        return
    raise ValueError(
        f"{key}: the chat template of {chat.directory} closes the thought before the answer "
        f'begins, and rationales.thoughts is "keep"; change student.template_arguments (e.g. '
        'enable_thinking), or set it to "drop"'
    )
