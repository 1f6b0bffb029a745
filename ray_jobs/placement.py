"""Engine config -> how its Ray actor is placed; and the Ray instance a run works on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from orca2_gen.config_schema import EngineConfig, ScriptedEngineConfig, VLLMEngineConfig
from orca2_gen.offline import OFFLINE_ENVIRONMENT

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


def actor_options(config: EngineConfig, max_concurrency: int) -> dict[str, Any]:
    """Ray's options for one engine's actor; tensor- and pipeline-parallel ranks live inside it
    (vLLM's mp executor).

    Raises:
        ValueError: the nodes have no room for all replicas.
    """
    options: dict[str, Any] = {"max_concurrency": max_concurrency, "max_restarts": 0, "num_cpus": 0}
    if isinstance(config, ScriptedEngineConfig):
        return options
    gpus = config.tensor_parallel_size * config.pipeline_parallel_size
    per_node = [int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]]
    if not any(per_node):
        return options
    fitting = sum(num // gpus for num in per_node)
    if fitting < config.replicas:
        raise ValueError(
            f"replicas is {config.replicas}, and the nodes, with {per_node} GPUs, have room for "
            f"{fitting} engines of tensor_parallel_size x pipeline_parallel_size = {gpus}; "
            f"lower one of the three"
        )
    return options | {"num_gpus": gpus}


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
