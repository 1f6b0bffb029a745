"""Training on two machines: as on one rank, and a lost machine costs no step but its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from orca2_gen.config.load import load_config
from tests.machines.namespaces import Machine, site, skip_without_machines
from tests.train.test_killed_stages import num_done
from tests.train.test_sft import read_losses, write_config
from train.sft import train_from_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NUM_STEPS = 40


@pytest.fixture
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Machine]]:
    """Two machines that see the folders of all tests."""
    skip_without_machines()
    with site(tmp_path_factory.getbasetemp()) as found:
        yield [found.add(), found.add()]


IMPATIENT = """
import sys
from train import failures
failures.SILENT_SECONDS = 30.0
from train.sft import main
sys.exit(main())
"""
"""The training program, but for the minutes after which a silent rank is missed."""


def training_on(
    machines: list[Machine], file: Path, output: Path, program: Sequence[str] = ("-m", "train.sft")
) -> list[subprocess.Popen[str]]:
    """A launcher on each machine, with two ranks each, that find each other by host name."""
    command = [sys.executable, "-m", "train.launch", f"--nnodes={len(machines)}"]
    command += ["--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-id=1"]
    command += [f"--rdzv-endpoint={machines[0].name}:29400", *program, str(file)]
    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONUNBUFFERED": "1"}
    return [
        machine.start(*command, output=output.with_name(f"{machine.name}.log"), **environment)
        for machine in machines
    ]


@pytest.mark.parametrize("sharding", ["full", "hybrid"])
def test_two_machines_train_as_one_rank(
    machines: list[Machine], tmp_path: Path, model_dir: Path, dataset_dir: Path, sharding: str
) -> None:
    whole, spread = (
        write_config(tmp_path / name, model_dir, dataset_dir, "adamw") for name in ("one", "two")
    )
    spread.write_text(f'{spread.read_text()}sharding = "{sharding}"\nasync_save = true\n')
    train_from_config(load_config(whole))
    nodes = training_on(machines, spread, tmp_path / "log")
    ended = [node.wait(300) for node in nodes]
    said = [file.read_text() for file in sorted(tmp_path.glob("*.log"))]
    assert ended == [0, 0], said
    one, two = (read_losses(file.parent / "run/metrics.jsonl") for file in (whole, spread))
    assert two == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize("lost", [0, 1], ids=["the first", "the second"])
@pytest.mark.parametrize("way", ["killed", "cut off"])
def test_a_lost_machine_ends_the_others_ranks_with_one_line_and_one_machine_goes_on(
    machines: list[Machine], tmp_path: Path, model_dir: Path, dataset_dir: Path, lost: int, way: str
) -> None:
    whole, spread = (
        write_config(tmp_path / name, model_dir, dataset_dir, "adamw") for name in ("one", "two")
    )
    for file in (whole, spread):
        file.write_text(file.read_text().replace("num_steps = 8", f"num_steps = {NUM_STEPS}"))
    train_from_config(load_config(whole))
    program = tmp_path / "impatient.py"
    program.write_text(IMPATIENT)
    nodes = training_on(machines, spread, tmp_path / "log", [str(program)])
    metrics = spread.parent / "run/metrics.jsonl"
    while num_done(metrics) < 5:
        assert all(node.poll() is None for node in nodes)
        time.sleep(0.01)
    other = machines[1 - lost]
    (machines[lost].kill if way == "killed" else machines[lost].cut_off)()
    began = time.monotonic()
    code = nodes[1 - lost].wait(300)
    print(f"{way}: the other machine's ranks ended after {time.monotonic() - began:.0f} s: {code}")
    if way == "cut off":
        machines[lost].kill()
    said = (tmp_path / f"{other.name}.log").read_text()
    assert code not in (0, 2) and "Traceback" not in said, said
    assert "run the same command again" in said, said
    assert num_done(metrics) < NUM_STEPS
    [alone] = training_on([other], spread, tmp_path / "log")
    assert alone.wait(300) == 0, (tmp_path / f"{other.name}.log").read_text()
    one, two = (read_losses(file.parent / "run/metrics.jsonl") for file in (whole, spread))
    assert two == pytest.approx(one, rel=1e-4)
