"""The three files of pins, against each other, the Makefile and what is installed here."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.pins import ROOT, pins

MAKEFILE = (ROOT / "Makefile").read_text()
FILES = ("constraints.txt", "constraints-cpu.txt", "constraints-gpu.txt")


@pytest.mark.parametrize("build", FILES[1:])
def test_no_package_has_two_pins_in_one_environment(build: str) -> None:
    assert not pins("constraints.txt").keys() & pins(build).keys()


def test_each_build_pins_what_they_need_in_different_versions() -> None:
    cpu, gpu = map(pins, FILES[1:])
    assert cpu.keys() < gpu.keys()
    assert all(cpu[name] != gpu[name] for name in cpu)


def test_set_up_and_the_wheels_hold_each_build_to_its_own_pins() -> None:
    own = ["constraints.txt", "constraints-$(EXTRA).txt"]
    assert re.findall(r"-c (constraints\S+)", MAKEFILE) == 2 * own
    assert "$(DONE): pyproject.toml constraints.txt constraints-$(EXTRA).txt\n" in MAKEFILE


def test_the_gpu_build_has_the_torch_of_the_cpu_build_and_cudas_libraries_for_it() -> None:
    gpu = pins("constraints-gpu.txt")
    [torch] = re.findall(r"^TORCH \?= torch==(\S+)$", MAKEFILE, re.MULTILINE)
    assert gpu["torch"] == Version(torch)
    # torch's wheels name these packages with CUDA's major version, or depend on that toolkit.
    major = gpu["cuda-toolkit"].major
    named = {found[1] for name in gpu if (found := re.fullmatch(r"nvidia-\w+-cu(\d+)", name))}
    assert named == {str(major)}
    assert gpu["nvidia-cuda-runtime"].release[:2] == gpu["cuda-toolkit"].release[:2]
    assert f"CUDA {major}" in (ROOT / "docs" / "cluster.md").read_text()


@pytest.mark.parametrize("extra", ["gpu", "cpu", "dev"])
def test_every_package_that_an_extra_names_is_pinned_to_a_version_that_it_takes(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = pins("constraints.txt") | pins("constraints-gpu.txt")
    for text in [*project["dependencies"], *project["optional-dependencies"][extra]]:
        asked = Requirement(text)
        assert asked.specifier.contains(pinned[canonicalize_name(asked.name)]), text


def test_what_is_installed_here_is_pinned_with_all_that_it_needs() -> None:
    """Of the packages that both builds have: vllm's own metadata differ."""
    pinned = pins("constraints.txt") | pins("constraints-cpu.txt")
    here = {canonicalize_name(found.name): found for found in distributions()}
    asked = [
        (name, requirement)
        for name, found in here.items()
        if name in pinned
        for requirement in map(Requirement, found.requires or [])
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ]
    assert len(asked) > 300
    # The Makefile installs torch and takes its companions away again.
    apart = {"torch", "torchvision", "torchaudio", "torchcodec", "setuptools"}
    missing = {
        (name, needed)
        for name, requirement in asked
        if (needed := canonicalize_name(requirement.name)) not in pinned.keys() | apart
    }
    assert missing == set()
