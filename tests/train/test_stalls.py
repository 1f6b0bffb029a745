from __future__ import annotations

import pytest

from tests.train.test_failures import ended, ranks_of

LATE = """
from datetime import timedelta
import torch, torch.distributed as dist
from train import stalls
from train.failures import said_of_lost_rank
from train.ranks import collectives_within
failures.SILENT_SECONDS = failures.GONE_SECONDS = 600.0
stalls.STACKS_SECONDS = 1.0
stalls.STEP_TIMEOUT = timedelta(seconds=4)
def hangs_on_its_disk():
    time.sleep({seconds})
with joined_ranks(threading.Event()):
    try:
        with stalls.watched_steps() as done:
            done()
            with {inside}:
                if rank() == 1:
                    hangs_on_its_disk()
                dist.all_reduce(torch.zeros(3))
            done()
    except RuntimeError as error:
        assert said_of_lost_rank(error, rank()), error
        leave(1)
"""


def test_a_rank_that_hangs_shows_where_and_the_others_give_up() -> None:
    inside = "__import__('contextlib').nullcontext()"
    (first, said), (_, other) = ended(ranks_of(LATE.format(seconds=600, inside=inside)))
    assert first == 1 and "Timeout (0:00:01)" in said and "all_reduce" in said
    assert "another rank is gone or cannot be reached (Timed out waiting 4000ms" in said
    assert "hangs_on_its_disk" in other


@pytest.mark.parametrize("seconds", [0, 6])
def test_ranks_are_waited_for_where_they_may_take_long_and_stacks_stop_nothing(
    seconds: int,
) -> None:
    inside = "collectives_within(timedelta(seconds=60))"
    found = ended(ranks_of(LATE.format(seconds=seconds, inside=inside)))
    assert [code for code, _ in found] == [0, 0]
    assert ["hangs_on_its_disk" in said for _, said in found] == [False, seconds > 0]
