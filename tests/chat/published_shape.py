"""What is known of a kind of chat model that people publish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedShape:
    """A kind of chat model that people publish, and what its template is known to do."""

    name: str
    """Also the name of its file in `templates/`."""
    tokenizer: Callable[[], Tokenizer]
    bos: str = ""
    eos: str
    further_ends: tuple[str, ...] = ()
    """Tokens that end a turn by the generation config."""
    system: Literal["held", "refused", "dropped"] = "held"
    """What becomes of a system message: `refused` in any conversation, `dropped` once an answer
    follows."""
    date: Literal["shown", "own", "none"] = "none"
    """Whether the template shows the day: `own` only in a system text that nobody gave it."""
    own_system: str = ""
    """How the system text begins that the template writes where it is given none."""
    keeps_own_system: bool = False
    """Whether it also writes that text where it is given an empty one."""
    opens_think: bool = False
    """Whether the opening of an answer begins a thought."""
    arguments: tuple[tuple[str, object], ...] = ()
    """Arguments that change the text of a prompt or row, each with a value that does."""
    closes_turns: bool = True
    """Whether an end token stands behind an answer."""
    row_opening: str = ""
    """What the template writes before the answer of a training row and not into a prompt, white
    space between its words put as one space."""
    thought: tuple[str, ...] = ()
    """The markers around a thought."""
    closes_think: bool = False
    """Whether the opening of an answer has ended a thought, so that none can be kept."""
    has_spelled_thought: bool = False
    """Whether they are ordinary text."""
    given: tuple[tuple[str, object], ...] = ()
    """Arguments with which the template is rendered."""
    template: str = ""
    """The name of another shape that has the same template."""
    other_row: str = ""
    """Why a row without a thought has other ids than the template's whole conversation."""
    other_thought: str = ""
    """Why a row with a thought has."""
    many_bos: bool = False
    """Whether further turns have a BOS too."""
    strips_after: bool = False
    """Whether markers take the white space behind them, so that no id stands for it."""
    is_byte_level: bool = True
    """Whether the tokenizer is of this kind, else of sentencepiece's."""
    knows_markers: bool = False
    """Whether its model finds markers and names of bytes in any text: a marker is then refused."""
    other_ids: str = ""
    """Why the ids of plain text differ from those of the rendered text as a whole."""

    @property
    def policy(self) -> Literal["message", "fold"]:
        """What a config has to say about this model's system messages."""
        return "message" if self.system == "held" else "fold"
