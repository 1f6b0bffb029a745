"""Engines that wait for GPUs, on nodes that are made up; test_devices.py has Ray's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from orca2_gen.config.dispatch import DispatchConfig
from ray_jobs.cluster import Node
from ray_jobs.engines import devices, replicas
from ray_jobs.engines.devices import Devices
from ray_jobs.engines.own_process import EnginePlace
from ray_jobs.engines.replica import Replica
from ray_jobs.engines.replicas import Replicas
from ray_jobs.engines.room import Room
from tests.ray_jobs.engines import stand_ins
from tests.ray_jobs.engines.stand_ins import StandIn

ONE, TWO = Node(gpus=1, node_id="one", host="a"), Node(gpus=1, node_id="two", host="b")
FIRST = EnginePlace(node="a", node_id="one", devices=("0",))


@pytest.fixture(autouse=True)
def no_time_passes_between_looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(replicas, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(devices, "FIRST_TELL_SECONDS", 1e-9)
    with mock.patch("ray.get", stand_ins.get):
        yield


class Cluster:
    """One replica on two nodes of one GPU each."""

    def __init__(self, *, keep_nodes: bool, start_seconds: float = 1800.0) -> None:
        self.free, self.said = {ONE: 0, TWO: 1}, list[str]()
        self.started: list[StandIn] = []
        self.failed = {("one", "0")}
        limits = DispatchConfig(start_seconds=start_seconds, backoff_seconds=0.0)
        room = Devices(self.said.append, lambda: Room(ranks=1, free=dict(self.free)), self.failed)
        self.replicas = Replicas(
            self._start, 1, limits, self.said.append, devices=room, keep_nodes=keep_nodes
        )

    @property
    def replica(self) -> Replica:
        [replica] = self.replicas.all
        return replica

    def _start(self, index: int, node: str) -> Any:
        self.started.append(StandIn(place=FIRST))
        return self.started[-1]

    def settle(self) -> None:
        self.replicas.settle([ref for ref in self.replicas.pending if ref.is_ready])

    def place(self) -> None:
        """The newest actor gets its GPU, the one that failed."""
        self.started[-1].get_placed()
        self.settle()


def test_a_replica_bound_to_a_node_does_not_leave_out_the_only_gpu_that_it_may_have() -> None:
    cluster = Cluster(keep_nodes=True)
    cluster.replica.node = "one"
    cluster.settle()
    cluster.place()
    assert cluster.replica.is_placed and len(cluster.started) == 1, "it loads there"


def test_a_gpu_that_was_left_out_is_tried_again_once_another_job_holds_the_rest() -> None:
    cluster = Cluster(keep_nodes=False)
    cluster.settle()
    cluster.place()
    [holder] = cluster.started
    assert not cluster.replica.is_placed and not holder.is_ended, "it keeps the GPU from others"
    cluster.free = {ONE: 0, TWO: 0}
    cluster.settle()
    cluster.settle()
    assert len(cluster.started) == 2 and holder.is_ended and not cluster.failed
    assert any("1 that failed are tried again" in line for line in cluster.said)
    cluster.place()
    assert cluster.replica.is_placed
    cluster.replicas.kill()
    assert all(engine.is_ended for engine in cluster.started)


def test_a_replica_that_waits_for_its_node_says_so_and_takes_its_time_though_another_is_free() -> (
    None
):
    cluster = Cluster(keep_nodes=True, start_seconds=0.5)
    cluster.replica.node = "one"
    for _ in range(5):
        cluster.settle()
        time.sleep(0.2)
    assert cluster.replica.is_waiting and cluster.replica.failed_starts == 0
    assert cluster.said == ["engine 0 waits for 1 GPU; free GPUs now: 1 on b"]


def test_engines_that_make_room_for_another_model_give_back_the_gpus_that_they_left_out() -> None:
    cluster = Cluster(keep_nodes=False)
    cluster.settle()
    cluster.place()
    cluster.settle()
    assert not cluster.started[0].is_ended
    cluster.replicas.leave(cluster.replica)
    cluster.settle()
    assert len(cluster.started) == 2 and all(engine.is_ended for engine in cluster.started)
