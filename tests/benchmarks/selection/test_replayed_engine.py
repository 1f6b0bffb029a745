from __future__ import annotations

import asyncio
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.selection.replayed_engine import COPY, ReplayedEngine, Span, mean_running
from orca2_gen.engine import Request
from orca2_gen.records import Completion

ANSWER = Completion(
    problem_id="add/train/add-1",
    role="student",
    strategy="direct_answer",
    call=0,
    attempt=0,
    text="Answer: 2",
    finish_reason="stop",
    num_prompt_tokens=3,
    num_cached_tokens=0,
    num_completion_tokens=4,
    token_ids=(7, 8, 9, 10),
)


def request(problem_id: str) -> Request:
    return Request(
        problem_id=problem_id,
        role="student",
        strategy="direct_answer",
        call=0,
        attempt=0,
        prompt_token_ids=(1, 2, 3),
        max_tokens=16,
    )


@given(
    spans=st.lists(
        st.tuples(st.floats(0, 100), st.floats(0, 50)).map(lambda p: (p[0], p[0] + p[1], 1)),
        min_size=1,
        max_size=20,
    ),
    after=st.floats(0.1, 200),
)
def test_the_mean_of_running_requests_lies_between_none_and_all(
    spans: list[Span], after: float
) -> None:
    spans = sorted(spans)
    until = spans[0][0] + after
    found = mean_running(spans, until)
    assert 0 <= found <= len(spans) * (1 + 1e-9)
    # Moments of equal distance agree, as closely as so many can.
    moments = [spans[0][0] + after * (place + 0.5) / 500 for place in range(500)]
    sampled = sum(begun <= m < end for begun, end, _ in spans for m in moments) / 500
    assert found == pytest.approx(sampled, abs=len(spans) * 2 / 500)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_no_more_requests_run_than_the_batch_holds_and_copies_answer_as_the_original(
    batch: int,
) -> None:
    names = [f"add{COPY}{copy}/train/add-1" for copy in range(8)]

    async def answers() -> tuple[list[Completion], ReplayedEngine]:
        cells = {("add/train/add-1", "direct_answer", 0): ANSWER}
        engine = ReplayedEngine(cells, batch, 0.001)
        return await asyncio.gather(*(engine.generate(request(name)) for name in names)), engine

    found, engine = asyncio.run(answers())
    assert found == [dataclasses.replace(ANSWER, problem_id=name) for name in names]
    assert engine.num_generated_tokens == 4 * len(names)
    most = max(sum(b <= begun < e for b, e, _ in engine.spans) for begun, _, _ in engine.spans)
    assert most == batch
