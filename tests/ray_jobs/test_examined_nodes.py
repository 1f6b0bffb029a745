from __future__ import annotations

import time

import pytest
import ray

from orca2_gen.doctor.findings import good
from ray_jobs.cluster import Node
from ray_jobs.examined_nodes import _taken_in, examined_nodes


def test_every_node_of_a_cluster_is_examined(local_ray: None) -> None:
    [node] = examined_nodes()
    about = [each.about for each in node.findings]
    assert about[0] == "node" and {"packages", "memory", "/dev/shm"} <= set(about)
    [offline] = [each for each in node.findings if each.about == "offline variables"]
    assert offline.level == "good"
    assert "clock" not in about


@pytest.mark.parametrize(("skew", "words"), [(3600.0, "ahead of"), (-3600.0, "behind")])
def test_a_clock_that_is_wrong_is_odd(local_ray: None, skew: float, words: str) -> None:
    began = time.time()
    answer = ray.put((time.time() + skew, [good("memory", "much")]))
    found = _taken_in(Node(gpus=0, host="far"), answer, began)
    [clock] = [each for each in found.findings if each.about == "clock"]
    assert clock.level == "odd" and words in clock.found and "3600 s" in clock.found


def test_a_node_whose_process_fails_is_bad_and_the_others_are_examined(local_ray: None) -> None:
    def fails() -> None:
        raise ModuleNotFoundError("No module named 'orca2_gen'")

    answer = ray.remote(num_cpus=0, max_retries=0)(fails).remote()
    found = _taken_in(Node(gpus=0, host="far"), answer, time.time())
    [finding] = found.findings
    assert finding.level == "bad" and "No module named 'orca2_gen'" in finding.found
