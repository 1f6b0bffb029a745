"""An engine under watch: it ends the process where tokens stop coming, and a request that takes too
long.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from orca2_gen.engine import Engine, Request, cut_off
from orca2_gen.records import Completion

TOKEN_CHECK_SECONDS = 0.5
"""So often it is looked, of a request past its time, whether the engine makes tokens."""


class WatchedEngine:
    """An Engine that reports its own standstill.

    A thread looks, not a task: what blocks the event loop stops the tasks too. What counts is
    tokens; a ping would also be answered by a process whose engine hangs. While no request is open
    nothing is expected.
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
            engine: that does the work.
            stall_seconds: without any token while requests are open, after which it hangs.
            request_seconds: after which one request is cut off, its wait for a place in the batch
                included, as soon as the engine makes a token; None lets it run.
            on_stall: called, in the watching thread, with what was seen.
        """
        self._engine = engine
        self._stall_seconds, self._request_seconds = stall_seconds, request_seconds
        self._on_stall = on_stall
        self._num_open = 0
        self._closed = threading.Event()
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
        """Cut off at the first token that anyone gets after its time: where none comes, the engine
        hangs, which is for the watching thread to end. Its requests are not too long, and will be
        asked again.
        """
        generating = asyncio.ensure_future(self._engine.generate(request))
        try:
            done = (await asyncio.wait({generating}, timeout=seconds))[0]
            at_deadline = self._engine.num_generated_tokens
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
