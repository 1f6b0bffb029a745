from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.dispatch import receipts
from ray_jobs.dispatch.receipts import done_together


async def later(value: Any, seconds: float) -> Any:
    await asyncio.sleep(seconds)
    if isinstance(value, Exception):
        raise value
    return value


async def sent(works: list[tuple[Any, float]], into: list[Any]) -> None:
    tasks = [asyncio.create_task(later(value, seconds)) for value, seconds in works]
    async for found in done_together(tasks):
        into.append(found)


@given(delays=st.lists(st.sampled_from([0.0, 0.001, 0.05]), max_size=20))
def test_every_receipt_is_sent_once_and_those_of_one_moment_together(delays: list[float]) -> None:
    messages: list[Any] = []
    asyncio.run(sent(list(enumerate(delays)), messages))
    assert sorted(number for message in messages for number in message) == list(range(len(delays)))
    assert all(messages), "no message is empty"
    assert len(messages) <= len(set(delays))


def test_receipts_that_came_with_a_failure_are_sent_before_it_is_raised() -> None:
    messages: list[Any] = []
    works = [(1, 0.0), (ValueError("bad"), 0.0), (2, 0.0), (3, 10 * receipts.TOGETHER_SECONDS)]
    with pytest.raises(ValueError, match="bad"):
        asyncio.run(sent(works, messages))
    assert [sorted(message) for message in messages] == [[1, 2]]
