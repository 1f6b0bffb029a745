"""The system messages of the corpora: the texts of strategies.toml with three paraphrases of each.

The paraphrases keep a model from tying a strategy to one wording. The pipeline itself uses only
strategies.toml.
"""

from __future__ import annotations

from pathlib import Path

from orca2_gen.strategies import Strategies, load_strategies

STRATEGIES_FILE = Path(__file__).with_name("strategies.toml")

_PARAPHRASES = {
    "direct_answer": (
        "Only say the answer.",
        "Answer directly, without any working.",
        "State the answer and nothing else.",
    ),
    "step_by_step": (
        "Think step by step before you answer.",
        "Solve this one step at a time.",
        "Write down every step, and answer at the end.",
    ),
    "recall_then_generate": (
        "State what you know about it, then answer.",
        "Write the relevant facts and then the answer.",
        "Begin with the facts you remember, then answer.",
    ),
    "recall_reason_generate": (
        "State the facts, draw the conclusion, then answer.",
        "Use what you know: facts, reasoning, answer.",
        "Remember the facts and reason from them before you answer.",
    ),
    "extract_generate": (
        "Copy the parts of the question that count, then answer.",
        "Take the relevant words from the question, then answer.",
        "Quote first, answer after that.",
    ),
    "explain_then_answer": (
        "Explain before you answer.",
        "Say something about every option, then answer.",
        "Give an explanation first and the answer last.",
    ),
}
_CAUTIOUS_PARAPHRASES = (
    "You are a careful assistant and reply as well as you can.",
    "You are an honest assistant. Read every request with care.",
    "You help people carefully and honestly.",
)


def microworld_strategies() -> Strategies:
    """The Strategies of the microworld."""
    return load_strategies(str(STRATEGIES_FILE))


def system_messages(strategies: Strategies) -> dict[str, tuple[str, ...]]:
    """Strategy -> its instruction and its paraphrases."""
    return {name: (text, *_PARAPHRASES[name]) for name, text in strategies.instructions.items()}


def generic_messages(strategies: Strategies) -> tuple[str, ...]:
    """Messages that name no strategy: the cautious one, its paraphrases, and none at all."""
    return (
        strategies.cautious_message,
        strategies.cautious_message,
        *_CAUTIOUS_PARAPHRASES,
        "",
        "",
        "",
    )
