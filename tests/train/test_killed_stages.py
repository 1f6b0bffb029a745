"""Three stages, killed and stopped at random, on one rank and on two: the same curve."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.train.test_sft import read_losses, write_config

STAGES = """
[[training.stages]]
num_steps = 6
learning_rate = 3e-3
[[training.stages]]
datasets = [{{ path = "{dataset}", weight = 0.5 }}, {{ path = "{other}" }}]
num_steps = 10
learning_rate = 1e-3
schedule = "linear"
[[training.stages]]
datasets = [{{ path = "{other}" }}]
num_steps = 6
learning_rate = 3e-4
optimizer_state = "reset"
"""
NUM_STEPS = 22
KILLS = 10


def staged_config(folder: Path, model_dir: Path, dataset_dir: Path, *, more: str = "") -> Path:
    file = write_config(folder, model_dir, dataset_dir, "adamw")
    other = folder / "other"
    shutil.copytree(dataset_dir, other)
    body = file.read_text().replace("save_every_steps = 2", f"save_every_steps = 1\n{more}")
    stages = STAGES.format(dataset=folder / "run/dataset", other=other)
    file.write_text(body + stages)
    return file


def started(ranks: int, file: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={ranks}", "-m", "train.sft", str(file)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)


def kill(launched: subprocess.Popen[bytes]) -> None:
    """Kills torchrun and its ranks at once."""
    try:
        family = [psutil.Process(launched.pid), *psutil.Process(launched.pid).children(True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    launched.wait()


def num_done(metrics: Path) -> int:
    return len(metrics.read_bytes().splitlines()) if metrics.exists() else 0


def killed_curve(file: Path, seed: int) -> tuple[list[float], list[tuple[int, int]]]:
    """The curve of a training that is killed KILLS times, and ranks and step of each kill."""
    generator = random.Random(seed)
    metrics = file.parent / "run/metrics.jsonl"
    kills: list[tuple[int, int]] = []
    for number in range(KILLS):
        ranks = 1 + number % 2
        before = num_done(metrics)
        # At least one step from one start to the next, so that all kills find one to interrupt.
        wanted = min(before + generator.randint(1, 3), NUM_STEPS - 1)
        launched = started(ranks, file)
        while num_done(metrics) < wanted and launched.poll() is None:
            time.sleep(0.005)
        time.sleep(generator.uniform(0.0, 0.3))  # in a step, in a save, or between them
        kill(launched)
        kills.append((ranks, num_done(metrics)))
    launched = started(2, file)
    assert launched.wait() == 0
    return read_losses(metrics), kills


def whole_curve(file: Path) -> list[float]:
    launched = started(1, file)
    assert launched.wait() == 0
    return read_losses(file.parent / "run/metrics.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("saving", ["", "async_save = true"], ids=["between steps", "beside them"])
def test_a_training_in_stages_killed_ten_times_on_one_rank_and_on_two_has_the_same_curve(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, saving: str
) -> None:
    whole = whole_curve(staged_config(tmp_path / "whole", model_dir, dataset_dir))
    file = staged_config(tmp_path / "killed", model_dir, dataset_dir, more=saving)
    losses, kills = killed_curve(file, seed=0)
    print(f"killed (ranks, step): {kills}")
    for step, pair in enumerate(zip(whole, losses, strict=True), 1):
        print(f"step {step:2}  whole {pair[0]:.9f}  killed {pair[1]:.9f}")
    assert len(whole) == NUM_STEPS and {ranks for ranks, _ in kills} == {1, 2}
    assert losses == pytest.approx(whole, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_state_of_the_last_step_and_ends_with_75(
    tmp_path: Path, model_dir: Path, dataset_dir: Path, ranks: int, number: signal.Signals
) -> None:
    whole = whole_curve(staged_config(tmp_path / "whole", model_dir, dataset_dir))
    file = staged_config(tmp_path / "stopped", model_dir, dataset_dir)
    orca2 = Path(sys.executable).with_name("orca2")
    command = [orca2, "train", file, "--nproc-per-node", str(ranks)]
    command += ["--set", "training.save_every_steps=1000"]
    launched = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    metrics = file.parent / "run/metrics.jsonl"
    while num_done(metrics) < 8 and launched.poll() is None:
        time.sleep(0.005)
    launched.send_signal(number)
    _, messages = launched.communicate(timeout=300)
    assert launched.returncode == 75, messages
    assert "Traceback" not in messages
    done = num_done(metrics)
    [state] = (file.parent / "run/student.training").glob("step-*")
    assert state.name == f"step-{done:08d}" and done < NUM_STEPS
    assert started(2, file).wait() == 0
    assert read_losses(metrics) == pytest.approx(whole, rel=1e-6)
