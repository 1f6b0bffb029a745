"""An engine under watch, without Ray."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from orca2_gen.chat import Chat
from orca2_gen.engine import Request
from orca2_gen.records import Completion
from orca2_gen.scripted_engine import ScriptedEngine
from ray_jobs.engines.watchdog import WatchedEngine


def request_of(problem_id: str, max_tokens: int = 8) -> Request:
    return Request(
        problem_id=problem_id,
        role="student",
        strategy="direct_answer",
        call=0,
        attempt=0,
        prompt_token_ids=(1, 2, 3),
        max_tokens=max_tokens,
    )


class HangingEngine:
    """An engine that never answers, and makes tokens for some seconds."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self.is_dead = False

    async def generate(self, request: Request) -> Completion:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    @property
    def num_generated_tokens(self) -> int:
        return int(1000 * min(time.monotonic(), self._end))

    def close(self) -> None:
        pass


def watched(engine: HangingEngine, stalled: threading.Event) -> WatchedEngine:
    return WatchedEngine(
        engine, stall_seconds=0.4, request_seconds=None, on_stall=lambda reason: stalled.set()
    )


def test_an_engine_that_makes_no_token_is_reported_after_its_time() -> None:
    stalled = threading.Event()

    async def scenario() -> float:
        started = time.monotonic()
        asking = asyncio.create_task(watched(HangingEngine(0.0), stalled).generate(request_of("p")))
        await asyncio.to_thread(stalled.wait, 30)
        asking.cancel()
        return time.monotonic() - started

    assert asyncio.run(scenario()) >= 0.4
    assert stalled.is_set()


def test_an_event_loop_that_is_blocked_is_noticed_too() -> None:
    stalled = threading.Event()

    async def scenario() -> None:
        asking = asyncio.create_task(watched(HangingEngine(0.0), stalled).generate(request_of("p")))
        await asyncio.sleep(0)
        assert stalled.wait(30)  # holds the loop like a call that never returns
        asking.cancel()

    asyncio.run(scenario())


def test_a_long_request_that_makes_tokens_and_an_idle_engine_are_left_alone() -> None:
    stalled = threading.Event()

    async def scenario() -> None:
        engine = watched(HangingEngine(1e9), stalled)
        await asyncio.sleep(1.0)  # idle
        asking = asyncio.create_task(engine.generate(request_of("p")))
        await asyncio.sleep(1.0)
        asking.cancel()
        engine.close()

    asyncio.run(scenario())
    assert not stalled.is_set()


def test_a_request_past_its_deadline_is_a_truncated_completion(chatml: Chat) -> None:
    async def scenario() -> list[Completion]:
        slow = WatchedEngine(
            HangingEngine(1e9), stall_seconds=60, request_seconds=0.2, on_stall=pytest.fail
        )
        quick = WatchedEngine(
            ScriptedEngine(chatml, lambda request: "Answer: 4"),
            stall_seconds=60,
            request_seconds=5.0,
            on_stall=pytest.fail,
        )
        return [
            await slow.generate(request_of("slow")),
            await quick.generate(request_of("quick", max_tokens=64)),
        ]

    slow, quick = asyncio.run(scenario())
    assert (slow.problem_id, slow.finish_reason, slow.text) == ("slow", "length", "")
    assert (quick.finish_reason, quick.text) == ("stop", "Answer: 4")


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_requests_of_an_engine_that_hangs_are_not_cut_off_but_end_with_it(seconds: float) -> None:
    stalled = threading.Event()

    async def scenario() -> None:
        engine = WatchedEngine(
            HangingEngine(seconds),  # 0.3: tokens come after the requests
            stall_seconds=2.0,
            request_seconds=0.6,
            on_stall=lambda reason: stalled.set(),
        )
        asking = [asyncio.create_task(engine.generate(request_of(f"p{i}"))) for i in range(3)]
        assert await asyncio.to_thread(stalled.wait, 30), "each expiry looked like progress"
        assert not any(task.done() for task in asking), "rows that nobody asked anything about"
        for task in asking:
            task.cancel()

    asyncio.run(scenario())
