from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.assembly.feeds import in_batches, refilled
from orca2_gen.engine import Request
from orca2_gen.records import Completion


class OpenRequests:
    """An engine that takes a turn of the event loop for each token, and watches what is open."""

    is_dead, num_generated_tokens = False, 0

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.seen: list[str] = []
        self.most_open = 0
        self.begun_beside: dict[str, set[str]] = {}

    async def generate(self, request: Request) -> Completion:
        self.begun_beside[request.problem_id] = set(self.open)
        self.open.add(request.problem_id)
        self.seen.append(request.problem_id)
        self.most_open = max(self.most_open, len(self.open))
        for _ in range(request.max_tokens):
            await asyncio.sleep(0)
        self.open.remove(request.problem_id)
        return request.completion(
            text="", finish_reason="stop", num_cached_tokens=0, num_completion_tokens=0
        )

    def close(self) -> None:
        pass


def requests(lengths: list[int]) -> list[Request]:
    return [
        Request(
            problem_id=str(number),
            role="student",
            strategy="",
            call=0,
            attempt=0,
            prompt_token_ids=(1,),
            max_tokens=length,
        )
        for number, length in enumerate(lengths)
    ]


lengths = st.lists(st.integers(0, 9), min_size=1, max_size=60)


@given(lengths=lengths, most=st.integers(1, 20))
def test_refilling_asks_each_request_once_and_never_holds_a_place_empty(
    lengths: list[int], most: int
) -> None:
    engine = OpenRequests()
    asyncio.run(refilled(engine, requests(lengths), most))
    assert engine.seen == [str(number) for number in range(len(lengths))]
    assert engine.most_open == min(most, len(lengths)) or 0 in lengths
    assert engine.most_open <= most


@given(lengths=lengths, size=st.integers(1, 8), batches=st.integers(1, 4))
def test_batches_ask_each_request_once_and_keep_no_more_open_than_they_may(
    lengths: list[int], size: int, batches: int
) -> None:
    engine = OpenRequests()
    asyncio.run(in_batches(engine, requests(lengths), size, batches))
    assert sorted(map(int, engine.seen)) == list(range(len(lengths)))
    assert engine.most_open <= size * batches


def test_a_long_request_keeps_the_next_batch_waiting_and_not_the_next_request() -> None:
    long_first = requests([50, 1, 1, 1, 1, 1])
    engine = OpenRequests()
    asyncio.run(in_batches(engine, long_first, 2, 1))
    assert "0" not in engine.begun_beside["2"]
    engine = OpenRequests()
    asyncio.run(refilled(engine, long_first, 2))
    assert "0" in engine.begun_beside["5"]
