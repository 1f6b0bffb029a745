"""Engine config -> how its Ray actor is placed; and the Ray instance a run works on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orca2_gen.config_schema import Config, EngineConfig, ScriptedEngineConfig, VLLMEngineConfig
from orca2_gen.offline import OFFLINE_ENVIRONMENT
from ray_jobs.engine_actor import EngineActor

LOCAL_OBJECT_STORE_BYTES = 100_000_000
"""Leases and receipts are a few kilobytes; Ray's default is a third of the machine's memory."""


@contextmanager
def ray_instance() -> Iterator[None]:
    """Ray for the length of a run: the cluster that RAY_ADDRESS names, else one of our own on the
    loopback address.
    """
    if ray.is_initialized():
        yield
        return
    runtime_env = {"env_vars": OFFLINE_ENVIRONMENT}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(runtime_env=runtime_env, log_to_driver=False)
    else:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # Ray runs its workers at nice 15, where any other process on a laptop starves engines.
        os.environ.setdefault("RAY_worker_niceness", "0")
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=LOCAL_OBJECT_STORE_BYTES,
            log_to_driver=False,
            # Ray otherwise asks a public name server which address this machine has.
            _node_ip_address="127.0.0.1",
            runtime_env=runtime_env,
        )
    # Ray puts its own in place, which ends the driver with exit code 1 and its lock in place.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        ray.shutdown()


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """What a node of the cluster has."""

    gpus: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where the engines of one model go; decided before anything is loaded."""

    replicas: int
    ranks: int
    """Devices of one engine: tensor_parallel_size x pipeline_parallel_size."""
    device: Literal["gpu", "cpu", "none"]
    """A scripted engine needs none."""
    executor: Literal["mp", "ray"] | None
    """vLLM's distributed_executor_backend: mp inside a node, ray across nodes, None for a single
    rank."""

    @property
    def bundles(self) -> list[dict[str, float]]:
        """Of an engine's placement group; empty where its actor holds all its devices itself."""
        return [{"GPU": 1.0, "CPU": 1.0}] * self.ranks if self.executor == "ray" else []

    def __str__(self) -> str:
        if self.device == "none":
            return f"{self.replicas} scripted, no devices"
        engine = f"{self.ranks} {self.device.upper()}{'s' if self.ranks > 1 else ''}"
        how = {
            None: "one process",
            "mp": "ranks on one node",
            "ray": "ranks across nodes in a placement group",
        }[self.executor]
        return f"{self.replicas} x {engine} ({how})"


def cluster_nodes() -> list[Node]:
    """The living nodes of the cluster."""
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(gpus=int(resources.get("GPU", 0))) for resources in found]


def plan_placement(config: EngineConfig, nodes: Sequence[Node]) -> Placement:
    """The Placement of a model's engines on these nodes.

    Raises:
        ValueError: they have no room for all replicas.
    """
    if isinstance(config, ScriptedEngineConfig):
        return Placement(replicas=config.replicas, ranks=0, device="none", executor=None)
    tensor, pipeline = config.tensor_parallel_size, config.pipeline_parallel_size
    ranks = tensor * pipeline
    gpus = [node.gpus for node in nodes]
    if not any(gpus):  # vLLM's CPU ranks share the machine's cores; its ray executor refuses CPUs
        executor: Literal["mp", "ray"] | None = "mp" if ranks > 1 else None
        return Placement(replicas=config.replicas, ranks=ranks, device="cpu", executor=executor)
    inside = sum(num // ranks for num in gpus)
    if inside >= config.replicas:
        executor = "mp" if ranks > 1 else None
        return Placement(replicas=config.replicas, ranks=ranks, device="gpu", executor=executor)
    across = sum(gpus) // ranks
    if ranks > max(gpus) and across >= config.replicas:
        return Placement(replicas=config.replicas, ranks=ranks, device="gpu", executor="ray")
    fitting = across if ranks > max(gpus) else inside
    raise ValueError(
        f"{config.model}: {config.replicas} replicas of tensor_parallel_size {tensor} x "
        f"pipeline_parallel_size {pipeline} = {ranks} GPUs each do not fit: the nodes have "
        f"{' + '.join(map(str, gpus))} GPUs, room for {fitting}; lower one of the three"
    )


def plan_lines(config: Config) -> list[str]:
    """Where the engines of both models go on this cluster, a line each.

    Raises:
        ValueError: one of them does not fit.
    """
    nodes = cluster_nodes()
    return [
        f"{role}: {plan_placement(engine, nodes)}"
        for role, engine in (("student", config.student), ("teacher", config.teacher))
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedEngine:
    """An EngineActor and what holds its devices."""

    actor: Any
    last_words: Path | None = None
    """Where the actor says why it ends itself: Ray only knows that it did."""
    group: Any = None
    """Its placement group, where its ranks lie on several nodes."""

    def why(self, error: Exception) -> str:
        """Why the engine died, in one line: its own last words, else what Ray says."""
        if self.last_words is None or not self.last_words.exists():
            return reason_of(error)
        words = self.last_words.read_text().strip()
        self.last_words.unlink()
        return words

    def end(self) -> None:
        """Ends the actor, whose children end with it, and gives its devices back."""
        ray.kill(self.actor)
        if self.group is not None:
            remove_placement_group(self.group)


def start_engine(
    config: EngineConfig,
    placement: Placement,
    replica: int,
    *,
    max_concurrency: int,
    last_words: Path,
    **arguments: Any,
) -> PlacedEngine:
    """A new EngineActor for a replica, not yet up; `arguments` are its further keywords.

    Where the cluster has lost the devices of the placement the actor waits for them.
    """
    placed = on_this_machine(config, replica)
    options = actor_options(placement, max_concurrency)
    options["runtime_env"] = {"env_vars": actor_environment(placed)}
    group = None
    if placement.bundles:
        group = placement_group(placement.bundles, strategy="PACK")
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
            group, placement_group_capture_child_tasks=True
        )
    actor = ray.remote(**options)(EngineActor)
    last_words.unlink(missing_ok=True)
    started = actor.remote(
        config=placed, executor=placement.executor, last_words=last_words, **arguments
    )
    return PlacedEngine(actor=started, last_words=last_words, group=group)


def reason_of(error: Exception) -> str:
    """The last line of a Ray error, without Ray's frames and its advice: the exception that was
    raised far away, or how the process ended.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1].partition(" Some common causes include:")[0]


def actor_options(placement: Placement, max_concurrency: int) -> dict[str, Any]:
    """Ray's options for one engine's actor.

    Ranks on one node live in the actor's process tree, so it holds all their GPUs; ranks across
    nodes get theirs from the placement group, and the actor, which only talks to them, none.
    """
    options: dict[str, Any] = {
        "max_concurrency": max_concurrency,
        "max_restarts": 0,
        "max_task_retries": 0,
        "num_cpus": 0,
    }
    if placement.device == "gpu" and not placement.bundles:
        options["num_gpus"] = placement.ranks
    return options


def on_this_machine(config: EngineConfig, replica: int) -> EngineConfig:
    """The config with the cores of this replica's ranks bound, where there are no GPUs.

    vLLM's own binding puts the first rank of every engine on the same core and cannot bind several
    ranks on one NUMA node, so more than one rank or replica gets one core each by
    VLLM_CPU_OMP_THREADS_BIND.
    """
    if isinstance(config, ScriptedEngineConfig) or ray.cluster_resources().get("GPU", 0):
        return config
    ranks = config.tensor_parallel_size * config.pipeline_parallel_size
    if "VLLM_CPU_OMP_THREADS_BIND" in config.env or ranks * config.replicas == 1:
        return config
    cores = sorted(os.sched_getaffinity(0))
    mine = [cores[(replica * ranks + rank) % len(cores)] for rank in range(ranks)]
    bound = config.env | {"VLLM_CPU_OMP_THREADS_BIND": "|".join(map(str, mine))}
    return config.model_copy(update={"env": bound})


def actor_environment(config: EngineConfig) -> dict[str, str]:
    """The variables an engine's process needs before vLLM is imported in it."""
    return dict(config.env) if isinstance(config, VLLMEngineConfig) else {}
