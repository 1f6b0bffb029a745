from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from orca2_gen.engine import EngineLoad, Request
from orca2_gen.records import Completion
from orca2_gen.run_directory.engine_figures import Answers, EngineFigures, read_figures
from ray_jobs.engines import figures as module
from ray_jobs.engines.figures import CountedEngine, FiguresWriter


def request(strategy: str, problem_id: str = "p") -> Request:
    return Request(
        problem_id=problem_id,
        role="student",
        strategy=strategy,
        call=0,
        attempt=0,
        prompt_token_ids=(1, 2, 3),
        max_tokens=8,
    )


class Waiting:
    """An engine that answers when it is told to; `boom` fails."""

    is_dead, num_generated_tokens = False, 11
    load = EngineLoad(num_running=2, cache_usage=0.5, num_preemptions=1)

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def generate(self, request: Request) -> Completion:
        await self.go.wait()
        if request.problem_id == "boom":
            raise RuntimeError("boom")
        cut = request.problem_id == "long"
        return request.completion(
            text="x",
            finish_reason="length" if cut else "stop",
            num_cached_tokens=1,
            num_completion_tokens=5,
        )

    def close(self) -> None:
        self.go.set()


def test_answers_are_counted_by_strategy() -> None:
    async def work() -> CountedEngine:
        engine = CountedEngine(Waiting(), clock=lambda: 0.0)
        engine.close()
        await asyncio.gather(
            *(engine.generate(request("a", name)) for name in ("p", "long")),
            engine.generate(request("b")),
        )
        return engine

    assert asyncio.run(work()).answers == {
        "a": Answers(
            requests=2, truncated=1, prompt_tokens=6, cached_tokens=2, completion_tokens=10
        ),
        "b": Answers(requests=1, prompt_tokens=3, cached_tokens=1, completion_tokens=5),
    }


def test_an_engine_is_busy_while_any_request_is_open_even_one_that_fails() -> None:
    now = [100.0]

    async def work() -> None:
        inner = Waiting()
        engine = CountedEngine(inner, clock=lambda: now[0])
        open_ = [asyncio.ensure_future(engine.generate(request("a", p))) for p in ("p", "boom")]
        await asyncio.sleep(0)
        now[0] += 7.0
        assert engine.busy_seconds == 7.0 and engine.num_open == 2
        inner.go.set()
        found = await asyncio.gather(*open_, return_exceptions=True)
        assert isinstance(found[1], RuntimeError)
        now[0] += 50.0  # idle
        assert engine.busy_seconds == 7.0 and engine.num_open == 0
        assert engine.answers["a"].requests == 1

    asyncio.run(work())


def test_figures_are_written_when_an_engine_loads_again_and_again_and_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.01)
    first = EngineFigures(start="a1", stage="scores", model="m", replica=3, node="host")
    writer = FiguresWriter(tmp_path / "engines/m-3.a1.json", first)

    def seen_after(change: str) -> EngineFigures:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            found = read_figures(tmp_path).get("a1")
            if found is not None and (
                change == "begin" or (change == "up" and found.num_running) or found.has_ended
            ):
                return found
            time.sleep(0.01)
        raise AssertionError(f"nothing was written after {change}")

    loading = seen_after("begin")
    assert loading.start_seconds is None and not loading.has_ended
    writer.is_up(CountedEngine(Waiting()), "H200")
    up = seen_after("up")
    assert (up.num_running, up.cache_usage, up.preemptions) == (2, 0.5, 1)
    assert up.generated_tokens == 11 and up.gpu == "H200" and up.seconds >= loading.seconds
    writer.end()
    assert seen_after("end").has_ended


def test_a_row_counts_once_it_is_answered_and_only_if_an_engine_was_asked() -> None:
    async def work() -> CountedEngine:
        engine = CountedEngine(Waiting())
        engine.close()

        async def row(*names: str) -> int:
            await asyncio.gather(*(engine.generate(request("a", name)) for name in names))
            return len(names)

        made = await asyncio.gather(
            *(engine.counted("a", row(*names)) for names in (("p", "q"), (), ("r",)))
        )
        assert made == [2, 0, 1]
        return engine

    assert asyncio.run(work()).rows == {"a": 2}
