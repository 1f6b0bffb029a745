"""Every node of the cluster, asked what `orca2 doctor` asks a machine, and its clock."""

from __future__ import annotations

import time
from dataclasses import dataclass

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orca2_gen.doctor.findings import Finding, bad, good, odd
from orca2_gen.doctor.machine import machine_findings
from ray_jobs.cluster import Node, cluster_nodes
from ray_jobs.dispatch.receipts import reason_of

ANSWER_SECONDS = 120.0
"""Seconds that the nodes have to start a process each and answer."""
_READ_SECONDS = 2.0
"""Seconds to fetch an answer; one that has not come by then does not."""
CLOCK_SECONDS = 5.0
"""Difference of clocks at which logs of nodes mislead. Runs never compare clocks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """One node and what was found there."""

    host: str
    findings: tuple[Finding, ...]


def examined_nodes() -> list[Examined]:
    """Each node of the cluster that this process is connected to, asked at the same time.

    A process that Ray starts there looks, without a CPU that others could hold.
    """
    nodes = cluster_nodes()
    asked = ray.remote(num_cpus=0, max_retries=0)(_look)
    began = time.time()
    answers = {
        node: asked.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False)
        ).remote(node.gpus)
        for node in nodes
    }
    node_of = {answer: node for node, answer in answers.items()}
    found: dict[Node, Examined] = {}
    left, end = list(node_of), time.monotonic() + ANSWER_SECONDS
    # One by one, since each is compared with our clock when it comes.
    while left and (seconds := end - time.monotonic()) > 0:
        done, left = ray.wait(left, timeout=seconds)
        for answer in done:
            found[node_of[answer]] = _taken_in(node_of[answer], answer, began)
    for answer in left:
        found[node_of[answer]] = _taken_in(node_of[answer], answer, began)
    return [found[node] for node in nodes]


def _look(gpus: int) -> tuple[float, list[Finding]]:
    findings = machine_findings(gpus)
    return time.time(), findings


def _taken_in(node: Node, answer: ray.ObjectRef, began: float) -> Examined:
    try:
        clock, findings = ray.get(answer, timeout=_READ_SECONDS)
    except GetTimeoutError:
        findings = [
            bad("node", f"no answer in {ANSWER_SECONDS:.0f} s", "see Ray's logs on that node")
        ]
        return Examined(host=node.host, findings=tuple(findings))
    except RayError as error:
        remedy = "install the same orca2-gen on every node, and see Ray's logs there"
        return Examined(host=node.host, findings=(bad("node", reason_of(error), remedy),))
    gpus = f"{node.gpus} GPUs and {node.cpus:g} CPUs as Ray counts them"
    findings = [good("node", gpus), *findings]
    # It answered somewhere between our two looks at the clock.
    ahead, behind = clock - time.time(), began - clock
    if max(ahead, behind) > CLOCK_SECONDS:
        way = "ahead of" if ahead > 0 else "behind"
        found = f"{max(ahead, behind):.0f} s {way} this machine's"
        findings.append(odd("clock", found, "set the clocks, e.g. by chrony: logs would mislead"))
    return Examined(host=node.host, findings=tuple(findings))
