"""Several ranks of one training, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from orca2_gen.exit_codes import INTERRUPTED
from tests.train.test_sft import write_config
from train.launch import train_student

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def ended_within(seconds: float, processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    for process in alive:
        process.kill()
    return not alive


def launched(
    launcher: str, config_file: Path
) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """The launcher and its two ranks, after they have joined."""
    command = [sys.executable, "-m", launcher, "--standalone", "--nproc-per-node=2"]
    command += ["-m", "train.sft", str(config_file)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while not list(config_file.parent.glob("run/student.training/step-*")):
        assert process.poll() is None
        time.sleep(0.05)
    ranks = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "train.sft" in child.cmdline()
    ]
    assert len(ranks) == 2
    return process, ranks


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["train.launch", "torch.distributed.run"])
def test_ranks_end_after_their_launcher_was_killed(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, launcher: str
) -> None:
    config = write_config(tmp_path / "here", model_dir, dataset_dir, "adamw")
    config.write_text(config.read_text().replace("num_steps = 8", "num_steps = 100000"))
    process, ranks = launched(launcher, config)
    process.kill()
    process.wait()
    assert ended_within(30, ranks)


@pytest.mark.slow
def test_ranks_end_with_a_launcher_that_is_told_to_stop(
    tmp_path: Path, model_dir: Path, dataset_dir: Path
) -> None:
    config = write_config(tmp_path / "here", model_dir, dataset_dir, "adamw")
    config.write_text(config.read_text().replace("num_steps = 8", "num_steps = 100000"))
    process, ranks = launched("train.launch", config)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == INTERRUPTED  # the state is saved
    assert ended_within(30, ranks)


@pytest.mark.slow
def test_a_refusal_of_several_ranks_keeps_its_exit_code_and_shows_no_report(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "here", model_dir, dataset_dir, "adamw")
    with pytest.raises(ValueError, match="exit code 2"):
        train_student(config, ["training.seq_len=8"], nproc_per_node=2)
    lines = capfd.readouterr().err.splitlines()
    assert lines and set(lines) == {lines[0]} and lines[0].startswith("Error: ")
