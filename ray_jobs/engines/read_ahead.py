"""The weights of the model that comes next, read into the memory of its nodes before it starts.

An engine that loads 140 GB from network storage leaves its GPUs idle for minutes. While the last
units of the model before are worked on, the nodes' storage has nothing to do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray

from ray_jobs.cluster import Node
from ray_jobs.engines.placement import on_node

MOST_OF_MEMORY = 0.8
"""Share of a node's available memory that the weights may take: more would push each other out."""
PART_BYTES = 8 << 20


@dataclass(kw_only=True, slots=True)
class ReadAhead:
    """A model whose weights are read once, on every node that may load it."""

    model: Path
    nodes: Sequence[Node]
    """Nodes with GPUs; without any, weights are small or nobody waits for them."""
    is_tail: Callable[[], bool]
    """Whether no unit of the model before waits for an engine."""
    has_begun: bool = False

    def begin_in_tail(self) -> None:
        """Begins once, without waiting for an end; a failure costs time and nothing else."""
        if self.has_begun or not self.is_tail():
            return
        self.has_begun = True
        read = ray.remote(num_cpus=0, max_retries=0)(cached_bytes)
        for node in self.nodes:
            read.options(**on_node(node.node_id)).remote(self.model)


def cached_bytes(model: Path) -> int:
    """The bytes of the model's weights, which lie in the memory of this node now; 0 if they are too
    many for it.
    """
    files = sorted(model.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    if size > MOST_OF_MEMORY * available_memory():
        return 0
    buffer = bytearray(PART_BYTES)
    for file in files:
        with open(file, "rb", buffering=0) as weights:
            os.posix_fadvise(weights.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while weights.readinto(buffer):
                pass
    return size


def available_memory() -> int:
    """The bytes of memory that this machine can give without swapping."""
    found = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.M)
    return int(found[1]) << 10 if found else 0
