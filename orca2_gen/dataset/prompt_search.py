"""The words of instructions in the prompts of rows, whoever wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orca2_gen.chat import Chat
from orca2_gen.chat.chat import Parts, parts_of
from orca2_gen.dataset.instruction_search import InstructionSearch, seen_words
from orca2_gen.dataset.template_texts import (
    ROW,
    Borders,
    Trace,
    borders_of,
    rendered_sha256,
    row_texts,
    template_traces,
)
from orca2_gen.quoting import Run, unheard
from orca2_gen.records import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class _Around:
    """What a template writes around rows of one kind."""

    traces: dict[Run, Trace]
    borders: Borders
    rendered_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSearch:
    """A search of prompts, of which the template's part is done once for all rows of a kind."""

    chat: Chat
    system: str
    """The cautious message."""
    search: InstructionSearch
    around: dict[Parts, _Around | None] = field(default_factory=dict)
    """Cache: parts of a row -> what stands around it; None if the template can hold no such row."""

    def trace_in(self, messages: Sequence[Message]) -> Trace | None:
        """Words of an instruction in a row's prompt that its user's text does not hold.

        The row is the cautious message, one user message and its answer.
        """
        around = self._around(parts_of(messages))
        if around is None or not (around.traces or around.borders.are_open):
            return None
        user, borders = messages[1].content, around.borders
        runs = set(around.traces)
        if borders.are_open:
            runs |= self.search.runs_in(seen_words(f"{borders.before}{user}{borders.after}"))
        if not runs:
            return None
        left = unheard(runs, seen_words(user))
        for run, trace in around.traces.items():
            if run in left:
                return trace
        for run in sorted(left):
            name = self.search.name_of(run)
            return Trace(name=name, words=run, place="where the user's text meets its own")
        return None

    @property
    def rendered_sha256(self) -> dict[str, str]:
        """The hashes for the manifest: of a row without a thought, and of the kinds of rows that
        were searched.
        """
        self._around(ROW)
        kinds = ((" ".join(parts), around) for parts, around in self.around.items())
        return {parts: around.rendered_sha256 for parts, around in kinds if around is not None}

    def _around(self, parts: Parts) -> _Around | None:
        if parts not in self.around:
            try:
                texts = row_texts(self.chat, self.system, parts)
            except ValueError:  # of an unproved row
                self.around[parts] = None
            else:
                self.around[parts] = _Around(
                    traces=template_traces(self.chat, texts, self.search),
                    borders=borders_of(self.chat, texts, self.search),
                    rendered_sha256=rendered_sha256(texts, parts),
                )
        return self.around[parts]
