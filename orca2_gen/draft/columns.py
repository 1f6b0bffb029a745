"""The columns of a foreign file -> the mappings to our fields that their names suggest."""

from __future__ import annotations

from collections.abc import Iterable

_QUESTIONS = ("question", "prompt", "query", "problem", "input", "instruction", "text")
_ANSWERS = (
    *("answer", "gold", "target", "label", "output", "response", "solution", "completion"),
    *("final_answer", "ground_truth", "reference", "expected", "expected_answer", "correct_answer"),
)
_CHOICES = ("choices", "options", "endings")
_CHATS = ("messages", "conversations", "conversation")


def has_choices(names: Iterable[str]) -> bool:
    """Whether one of these columns holds the choices of a question, by its name."""
    return not {name.casefold() for name in names}.isdisjoint(_CHOICES)


def suggested_columns(names: Iterable[str]) -> list[dict[str, str]]:
    """Mappings as a task's `columns`, the likeliest first; none if no names are known ones.

    They are guesses: whoever takes one reads rows with it.
    """
    own = {name.casefold(): name for name in names}

    def first(known: Iterable[str]) -> str | None:
        return next((own[name] for name in known if name in own), None)

    question, answer, choices, chat = map(first, (_QUESTIONS, _ANSWERS, _CHOICES, _CHATS))
    found = [{"messages": chat}] if chat is not None else []
    if question is not None and answer is not None:
        plain = {"question": question, "answer": answer}
        if choices is not None:
            indexed = {"question": question, "answer_index": answer, "choices": choices}
            found += [plain | {"choices": choices}, indexed]
        found.append(plain)
    return found
