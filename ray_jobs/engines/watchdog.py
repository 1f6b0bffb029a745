"""An engine under watch: its process ends if tokens stop, a request if it takes too long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from orca2_gen.engine import Engine, EngineLoad, Request, cut_off
from orca2_gen.records import Completion

TOKEN_CHECK_SECONDS = 0.5
"""Seconds between checks whether the engine makes tokens, for a request past its time."""


class WatchedEngine:
    """An Engine that reports its own standstill.

    Only tokens count: a process whose engine hangs would still answer a ping. While no request is
    open, no token is expected.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        stall_seconds: float,
        request_seconds: float | None,
        on_stall: Callable[[str], None],
    ) -> None:
        """Watches from now on.

        Args:
            engine: engine that does the work.
            stall_seconds: seconds without a token, with requests open, after which it hangs.
            request_seconds: seconds, including the wait for a place in the batch, after which one
                request is cut off as soon as the engine makes a token; None lets it run.
            on_stall: function that the watching thread calls with a line on what it saw.
        """
        self._engine = engine
        self._stall_seconds, self._request_seconds = stall_seconds, request_seconds
        self._on_stall = on_stall
        self._num_open = 0
        self._closed = threading.Event()
        # A thread, not a task: whatever blocks the event loop stops its tasks too.
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    async def generate(self, request: Request) -> Completion:
        self._num_open += 1
        try:
            if self._request_seconds is None:
                return await self._engine.generate(request)
            return await self._generate_within(request, self._request_seconds)
        finally:
            self._num_open -= 1

    async def _generate_within(self, request: Request, seconds: float) -> Completion:
        """The completion, cut off at the first token that any request gets after its time."""
        generating = asyncio.ensure_future(self._engine.generate(request))
        try:
            done = (await asyncio.wait({generating}, timeout=seconds))[0]
            at_deadline = self._engine.num_generated_tokens
            # If no token comes, the engine hangs, and the watching thread ends it; its requests are
            # not too long and will be asked again.
            while not done and self._engine.num_generated_tokens == at_deadline:
                done = (await asyncio.wait({generating}, timeout=TOKEN_CHECK_SECONDS))[0]
            return generating.result() if done else cut_off(request)
        finally:
            generating.cancel()

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
        self._closed.set()
        self._engine.close()

    def _watch(self) -> None:
        seen, since = -1, time.monotonic()
        while not self._closed.wait(min(1.0, self._stall_seconds / 4)):
            tokens = self._engine.num_generated_tokens
            if tokens != seen or not self._num_open:
                seen, since = tokens, time.monotonic()
            elif time.monotonic() - since > self._stall_seconds:
                self._on_stall(
                    f"no token for {self._stall_seconds:g} s (stall_seconds) with "
                    f"{self._num_open} requests open"
                )
                return
