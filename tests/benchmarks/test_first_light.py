"""A first look at this host, by real steps at tiny sizes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.first_light import environment_of
from benchmarks.host.steps import NAMES, Task

ROOT = Path(__file__).parents[2]


def started(
    out: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """A first look that has begun. It adopts orphans, so it must be a process of its own."""
    command = [sys.executable, "-m", "benchmarks.first_light", "--tiny", "--out", str(out)]
    return subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=os.environ | (environment or {}),
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, dict[str, Any]]:
    """The exit code, the table, and the document of the last line."""
    printed, _ = process.communicate(timeout=550)
    *table, last = printed.splitlines()
    document: dict[str, Any] = json.loads(last)
    return process.returncode, "\n".join(table), document


def report(out: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((out / "report.json").read_text())
    return told


def ended_as(document: dict[str, Any]) -> dict[str, str]:
    return {name: step["ended"] for name, step in document["steps"].items()}


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != b"Z"


def absent(packages: Sequence[str], folder: Path) -> dict[str, str]:
    """The environment of a host that lacks these packages."""
    for package in packages:
        (folder / package).mkdir(parents=True)
        error = f"raise ModuleNotFoundError(\"No module named '{package}'\", name={package!r})\n"
        (folder / package / "__init__.py").write_text(error)
    path = filter(None, [str(folder), str(ROOT), os.environ.get("PYTHONPATH")])
    return {"PYTHONPATH": os.pathsep.join(path)}


def hanging_driver(folder: Path) -> dict[str, str]:
    """The environment of a host whose nvidia-smi never answers and leaves a process behind."""
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(
        f"#!/bin/sh\nsetsid sleep 1000 &\necho $! > {folder}/left\necho $$ > {folder}/own\n"
        "exec sleep 1000\n"
    )
    program.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_a_host_without_ray_and_arrow_trains_and_names_what_the_rest_lacks(
    tmp_path: Path,
) -> None:
    asked = ("--only", "training", "throughput-small", "--seconds", "400")
    environment = absent(("ray", "pyarrow"), tmp_path / "packages")
    code, table, document = ended(started(tmp_path / "out", *asked, environment=environment))
    assert code == 0
    steps = document["steps"]
    assert [*steps] == ["preflight", "models", "training", "throughput-small"]
    assert steps["throughput-small"]["ended"] == "left out"
    assert steps["throughput-small"]["reason"] in {
        f"the package {package} is not installed" for package in ("ray", "pyarrow")
    }
    trained = steps["training"]
    assert (trained["ended"], trained["figures"]["parameters"]) == ("done", 2_000_640)
    assert trained["figures"]["tokens_per_second"] > 0
    assert trained["figures"]["mfu_of_measured_matmul"] > 0
    assert document == report(tmp_path / "out")
    assert all(name in table for name in steps)


def test_a_step_that_hangs_costs_itself_and_keeps_its_figures(tmp_path: Path) -> None:
    environment = hanging_driver(tmp_path / "bin")
    before = time.monotonic()
    asked = ("--only", "training", "--seconds", "6")
    code, _, document = ended(started(tmp_path / "out", *asked, environment=environment))
    assert code == 1
    hung = document["steps"]["preflight"]
    assert (hung["ended"], hung["reason"]) == ("cut off", "cut off after 6 s")
    assert hung["figures"]["cores"] == len(os.sched_getaffinity(0))
    assert document["steps"]["training"]["reason"] == "preflight: cut off after 6 s"
    assert time.monotonic() - before < 120
    for name in ("own", "left"):
        assert not is_running(int((tmp_path / "bin" / name).read_text()))


def test_a_step_that_fails_says_why_and_those_that_need_it_are_left_out(tmp_path: Path) -> None:
    cache, out = tmp_path / "cache", tmp_path / "out"
    cache.mkdir()
    (cache / "larger.partial").write_text("in the way of the model that is to be made")
    asked = ("--only", "swap", "--cache", str(cache))
    code, _, document = ended(started(out, *asked))
    assert code == 1
    assert ended_as(document) == {"preflight": "done", "models": "failed", "swap": "left out"}
    failed = document["steps"]["models"]
    assert str(out / "models.log") in failed["reason"]
    assert failed["figures"]["tiny"]["weight_bytes"] > 4_000_000
    assert failed["reason"] in document["steps"]["swap"]["reason"]
    assert "Traceback" in (out / "models.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_look_that_is_ended_leaves_its_report_and_no_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    environment = hanging_driver(tmp_path / "bin")
    process = started(tmp_path / "out", "--only", "training", environment=environment)
    own = tmp_path / "bin" / "own"
    deadline = time.monotonic() + 120
    while not (own.is_file() and own.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    if number == signal.SIGTERM:
        code, _, document = ended(process)
        assert (code, document["interrupted"]) == (75, True)
        assert document["steps"]["preflight"]["reason"] == "interrupted"
        assert document["steps"]["preflight"]["figures"]["python"]
        assert document == report(tmp_path / "out")
    else:
        process.wait(60)
        told = json.loads((tmp_path / "out" / "preflight.json").read_text())
        assert told["figures"]["python"]
        # It has a session of its own, and nobody is left who knows of it.
        os.kill(int((tmp_path / "bin" / "left").read_text()), signal.SIGKILL)
    while is_running(int(own.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_step_sees_the_gpus_that_it_takes_and_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(devices: int, *, on_gpu: bool = True) -> str | None:
        task = Task(
            step="start",
            module="start",
            models=["llama-1b"],
            folder=str(tmp_path),
            figures_file="",
            seconds=1.0,
            is_tiny=False,
            on_gpu=on_gpu,
            devices=devices,
        )
        found = environment_of(task)
        assert found["RAY_ADDRESS"] == ""
        assert found["HF_HUB_OFFLINE"] == "1"
        return found.get("CUDA_VISIBLE_DEVICES")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert (seen(1), seen(2), seen(0), seen(1, on_gpu=False)) == ("0", "0,1", None, None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6")
    assert (seen(1), seen(2)) == ("3", "3,5")


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(1500)
def test_every_step_is_done_on_this_host(tmp_path: Path) -> None:
    process = started(tmp_path / "out", "--seconds", "1300")
    printed, _ = process.communicate(timeout=1400)
    document = json.loads(printed.splitlines()[-1])
    assert process.returncode == 0, printed
    cores = len(os.sched_getaffinity(0))
    undone = {name: s for name, s in document["steps"].items() if s["ended"] != "done"}
    assert not undone or (cores == 1 and [*undone] == ["two-ranks"]), undone
    assert {"preflight", "models", *NAMES} == set(document["steps"])
    figures = {name: step["figures"] for name, step in document["steps"].items()}
    assert figures["start"]["warm_start_seconds"] > 0
    assert 0 < figures["requests-small"]["fraction_of_roofline"] < 1
    assert figures["requests-small"]["requests"] == 512
    for end in ("end", "kill"):
        assert figures["memory"][f"up_before_{end}"]["resident"] > 100_000_000
        assert figures["memory"][f"processes_after_{end}"] == 0
        assert figures["memory"][f"left_after_{end}"] == {"gpu": None, "shm": 0, "resident": 0}
    assert figures["memory"]["engine"] == "actor"
    for name in ("throughput-small", "throughput-large"):
        ratios = ["actor_over_raw", "path_over_raw"]
        # A host on which it would be cut off leaves the peer out, and says so.
        if "ray.data.llm" not in document["steps"][name]["reason"]:
            ratios.append("path_over_ray_data_llm")
        for ratio in ratios:
            assert 0.1 < figures[name][ratio] < 10
    assert figures["swap"]["phased_swap_seconds"] > 0
    assert figures["swap"]["overlapped_seconds"] > 0
