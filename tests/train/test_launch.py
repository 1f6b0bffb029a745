"""Several ranks of one training, and how they end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from orca2_gen.exit_codes import FAILED, INTERRUPTED
from tests.train.test_sft import write_config
from train.launch import train_student

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def ended_within(seconds: float, processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    for process in alive:
        process.kill()
    return not alive


def launched(
    launcher: str, config_file: Path, stderr: int | None = subprocess.DEVNULL
) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """The launcher and its two ranks, after they have joined."""
    command = [sys.executable, "-m", launcher, "--standalone", "--nproc-per-node=2"]
    command += ["-m", "train.sft", str(config_file)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=stderr)
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


@pytest.mark.slow
def test_a_rank_that_is_killed_is_named_with_its_signal(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "here", model_dir, dataset_dir, "adamw")
    config.write_text(config.read_text().replace("num_steps = 8", "num_steps = 100000"))
    process, ranks = launched("train.launch", config, stderr=None)
    ranks[1].kill()
    assert process.wait(60) == FAILED
    assert ended_within(30, ranks)
    said = capfd.readouterr().err
    assert re.search("Error: rank 1 on .* was ended by SIGKILL, as the system does when", said)


@pytest.mark.slow
@pytest.mark.parametrize("nproc_per_node", [1, 2])
def test_a_training_ends_with_its_state_saved_after_the_command_that_began_it_was_killed(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, nproc_per_node: int
) -> None:
    config = write_config(tmp_path / "here", model_dir, dataset_dir, "adamw")
    config.write_text(config.read_text().replace("num_steps = 8", "num_steps = 100000"))
    program = "import sys; from pathlib import Path; from train.launch import train_student; "
    program += f"train_student(Path(sys.argv[1]), (), {nproc_per_node})"
    command = subprocess.Popen(
        [sys.executable, "-c", program, str(config)], env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    while not list(config.parent.glob("run/student.training/step-*")):
        assert command.poll() is None
        time.sleep(0.05)
    processes = psutil.Process(command.pid).children(recursive=True)
    command.kill()
    command.wait()
    assert ended_within(60, processes)
    steps = [int(path.name[5:]) for path in config.parent.glob("run/student.training/step-*")]
    lines = (config.parent / "run/metrics.jsonl").read_text().splitlines()
    assert max(steps) == len(lines)  # the last step is saved, not the last one that was due
