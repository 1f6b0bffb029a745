"""The wait of a replica before its engine is started again."""

from __future__ import annotations

import time
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError

from orca2_gen.config.dispatch import DispatchConfig
from ray_jobs.engines.placement import PlacedEngine
from ray_jobs.engines.replica import Replica
from ray_jobs.engines.replicas import MAX_BACKOFF_SECONDS, Replicas

pytestmark = pytest.mark.usefixtures("local_ray")

LIMITS = DispatchConfig(backoff_seconds=4.0, max_failed_starts=99)


@pytest.fixture
def replicas() -> Replicas:
    @ray.remote(num_cpus=0)
    class Idle: ...

    def start(index: int, node: str) -> Any:
        return PlacedEngine(actor=Idle.remote())

    return Replicas(start, 1, LIMITS, print)


def dies(replicas: Replicas, *, is_alone: bool) -> float:
    """Seconds from a death of the only engine to its next start."""
    [replica] = replicas.all
    replica.engine = replicas._start(0, "")
    before = time.monotonic()
    replicas.died(replica, ActorDiedError(), is_alone=is_alone)
    return waits(replica, before)


def waits(replica: Replica, before: float) -> float:
    assert replica.engine is None
    return round(replica.due - before)


def test_deaths_in_a_row_wait_longer_and_longer_except_the_first(
    replicas: Replicas,
) -> None:
    found = [dies(replicas, is_alone=False) for _ in range(7)]
    assert found == [0, 4, 8, 16, 32, MAX_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS]
    replicas.succeeded(replicas.all[0])
    assert [dies(replicas, is_alone=False) for _ in range(2)] == [0, 4]


def test_a_death_that_a_lone_problem_caused_does_not_wait(
    replicas: Replicas,
) -> None:
    assert dies(replicas, is_alone=False) == 0
    assert [dies(replicas, is_alone=True) for _ in range(4)] == [0, 0, 0, 0]


def test_an_engine_that_does_not_start_is_waited_for_twice_as_long_each_time(
    replicas: Replicas,
) -> None:
    [replica] = replicas.all
    found = []
    for _ in range(6):
        replica.engine = replicas._start(0, "")
        replica.starting, replica.due = object(), time.monotonic() - 1.0
        before = time.monotonic()
        replicas.settle()
        found.append(waits(replica, before))
    assert found == [4, 8, 16, 32, MAX_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS]
