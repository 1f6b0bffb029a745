"""The first engine of a kind on a node compiles alone; the others wait and find what it made.

vLLM compiles a model's graph as an engine starts and keeps it under VLLM_CACHE_ROOT. Engines that
start together on a node would all compile the same graph, each on the same cores.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orca2_gen.config.engine import VLLMEngineConfig
from ray_jobs.engines.versions import Versions

FOLDER = "orca2_gen"
"""Folder of the locks, under VLLM_CACHE_ROOT."""
COMPILED = b"compiled\n"
"""Content of the lock of a graph that an engine has compiled before."""


@contextmanager
def compiling(config: VLLMEngineConfig, versions: Versions) -> Iterator[None]:
    """A context in which an engine starts, alone if its graph may not be compiled yet.

    GPUs of another model that share the folder compile their own graph, perhaps side by side.

    Args:
        config: the engine's.
        versions: installed packages that compile it.
    """
    if config.enforce_eager:
        yield
        return
    lock = _opened(cache_root(os.environ) / FOLDER / f"{_key(config, versions)}.lock")
    if lock is None:
        yield
        return
    try:
        is_first = _is_first(lock)
        yield
        if is_first:  # it is up; an engine that fails leaves the turn to the next
            os.write(lock, COMPILED)
    finally:
        os.close(lock)


def cache_root(environment: Mapping[str, str]) -> Path:
    """The folder of what vLLM compiles, as vLLM chooses it (vllm/envs.py)."""
    cache = environment.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    return Path(environment.get("VLLM_CACHE_ROOT") or os.path.join(cache, "vllm")).expanduser()


def _opened(path: Path) -> int | None:
    """A descriptor of a lock's file; None, and a line, if it cannot be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:  # vLLM says what it cannot do without
        print(f"engines of this model may compile at the same time: {error}", flush=True)
        return None


def _is_first(lock: int) -> bool:
    """Whether no engine has compiled this before; if so, this one holds the lock."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waits for an engine that compiles the same model", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        return False
    if os.fstat(lock).st_size:
        fcntl.flock(lock, fcntl.LOCK_UN)
        return False
    return True


def _key(config: VLLMEngineConfig, versions: Versions) -> str:
    """A name for all engines that compile the same graph."""
    said: dict[str, Any] = config.model_dump(mode="json", exclude={"replicas", "license"})
    text = json.dumps([said, *versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
