"""An engine whose work is counted, and the thread that writes the counts to the run directory."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from orca2_gen.engine import Engine, EngineLoad, Request
from orca2_gen.rationales import Taught
from orca2_gen.records import Completion, StudentScore
from orca2_gen.run_directory.engine_figures import Answers, EngineFigures, write_figures

R = TypeVar("R")
_ASKED: ContextVar[list[Request] | None] = ContextVar("asked", default=None)
"""The requests of the row that the current task answers."""

WRITE_SECONDS = 5.0
"""Seconds between two writings of an engine's figures."""


class CountedEngine:
    """An Engine that counts what it answers, by strategy, and the seconds in which it has work."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._clock = engine, clock
        self._answers: dict[str, Answers] = {}
        self._rows: Counter[str] = Counter()
        self._outcomes: dict[str, Counter[str]] = {}
        self._num_open = 0
        self._busy_seconds, self._since = 0.0, 0.0

    async def generate(self, request: Request) -> Completion:
        if (requests := _ASKED.get()) is not None:
            requests.append(request)
        asked = self._clock()
        if not self._num_open:
            self._since = asked
        self._num_open += 1
        try:
            completion = await self._engine.generate(request)
        finally:
            self._num_open -= 1
            if not self._num_open:
                self._busy_seconds += self._clock() - self._since
        self._count(completion, self._clock() - asked)
        return completion

    def _count(self, completion: Completion, seconds: float) -> None:
        before = self._answers.get(completion.strategy, Answers())
        self._answers[completion.strategy] = Answers(
            requests=before.requests + 1,
            truncated=before.truncated + (completion.finish_reason == "length"),
            prompt_tokens=before.prompt_tokens + completion.num_prompt_tokens,
            cached_tokens=before.cached_tokens + completion.num_cached_tokens,
            completion_tokens=before.completion_tokens + completion.num_completion_tokens,
            seconds=before.seconds + seconds,
        )

    @property
    def answers(self) -> Mapping[str, Answers]:
        """Strategy -> its finished requests."""
        return dict(self._answers)

    async def counted(self, strategy: str, row: Awaitable[R]) -> R:
        """The row, counted once it is answered, if any request was made for it.

        It has to be awaited in a task of its own, as `asyncio.gather` does.
        """
        asked: list[Request] = []
        _ASKED.set(asked)
        made = await row
        if asked:
            self._rows[strategy] += 1
            self._outcomes.setdefault(strategy, Counter()).update(_outcomes_of(made))
        return made

    @property
    def outcomes(self) -> Mapping[str, Mapping[str, int]]:
        """Strategy -> what became of its rows -> their number."""
        return {name: dict(counts) for name, counts in self._outcomes.items()}

    @property
    def rows(self) -> Mapping[str, int]:
        """Strategy -> its answered rows."""
        return dict(self._rows)

    @property
    def num_open(self) -> int:
        """Requests that are not answered yet."""
        return self._num_open

    @property
    def busy_seconds(self) -> float:
        """Seconds with a request open."""
        # Another thread reads it: the sum first, so that no interval counts twice.
        done, num_open, since = self._busy_seconds, self._num_open, self._since
        return done + (self._clock() - since if num_open else 0.0)

    @property
    def is_dead(self) -> bool:
        return self._engine.is_dead

    @property
    def num_generated_tokens(self) -> int:
        return self._engine.num_generated_tokens

    @property
    def load(self) -> EngineLoad:
        return self._engine.load

    def close(self) -> None:
        self._engine.close()


def _outcomes_of(made: object) -> list[str]:
    """What became of a row, in the words of EngineFigures."""
    if isinstance(made, StudentScore):
        return [made.outcome, *(["forced"] if made.ending and not made.ending_is_unread else [])]
    if isinstance(made, Taught):
        return ["accepted" if made.rationales else "rejected", *["refused"] * len(made.refused)]
    return []


class FiguresWriter:
    """Writes one engine's figures every WRITE_SECONDS, from a thread.

    Whatever blocks the event loop keeps no thread from writing, and a slow file system no request.
    """

    def __init__(
        self,
        path: Path,
        figures: EngineFigures,
        publish: Callable[[EngineFigures], None] = lambda figures: None,
    ) -> None:
        """Writes them for the first time: the engine has its devices and loads.

        Args:
            path: their file.
            figures: what does not change.
            publish: function that hands them on, as often as they are written.
        """
        self._path, self._figures, self._publish = path, figures, publish
        self._began = time.monotonic()
        self._counted: CountedEngine | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="figures", daemon=True)
        self._thread.start()

    def is_up(self, counted: CountedEngine, gpu: str) -> None:
        """Counts from now on what this engine does, which has generated a token."""
        self._figures = dataclasses.replace(
            self._figures, gpu=gpu, start_seconds=time.monotonic() - self._began
        )
        self._counted = counted

    def end(self) -> None:
        """Writes the last figures; a file system that hangs keeps nobody."""
        self._ended.set()
        self._thread.join(WRITE_SECONDS)

    def now(self) -> EngineFigures:
        """The figures at this moment."""
        seconds = round(time.monotonic() - self._began, 3)
        if (counted := self._counted) is None:
            return dataclasses.replace(self._figures, seconds=seconds)
        load = counted.load
        return dataclasses.replace(
            self._figures,
            seconds=seconds,
            busy_seconds=round(counted.busy_seconds, 3),
            num_open=counted.num_open,
            num_running=load.num_running,
            cache_usage=round(load.cache_usage, 4),
            preemptions=load.num_preemptions,
            generated_tokens=counted.num_generated_tokens,
            answers=counted.answers,
            rows=counted.rows,
            outcomes=counted.outcomes,
        )

    def _write_on(self) -> None:
        while not self._ended.is_set():
            write_figures(self._path, now := self.now())
            with suppress(Exception):  # whatever ails the metrics, the figures go on
                self._publish(now)
            self._ended.wait(WRITE_SECONDS)
        write_figures(self._path, dataclasses.replace(self.now(), has_ended=True))
