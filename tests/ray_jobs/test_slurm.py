"""slurm.sbatch, read by shellcheck and run on this machine; srun and scontrol are stand-ins.

The stand-in for srun runs its command here, for one other node with a loopback address of its own,
and passes signals on as srun does; the one for scontrol writes down what it is asked.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from orca2_gen.exit_codes import INTERRUPTED, USAGE
from orca2_gen.provenance.verify import verify
from orca2_gen.run_directory.ledger import read_ledger
from tests.faults.drivers import wait_until
from tests.faults.heads import BIN, free_ports
from tests.faults.oracle import assert_nothing_runs
from tests.pins import ROOT

SCRIPT = ROOT / "ray_jobs" / "slurm.sbatch"
REHEARSAL = ROOT / "ray_jobs" / "configs" / "rehearsal.toml"
JOB_ID = f"77{os.getpid()}"
# As srun does, it passes on a signal that comes before its task has begun.
SRUN = """#!/bin/bash
ended= task=
trap 'ended=1; [ -z "$task" ] || kill -TERM -- "-$task" 2>/dev/null' TERM
echo "srun $*" >> "$ASKED"
while [[ $1 == --* ]]; do shift; done
[ "$2" != start ] || set -- "$@" --node-ip-address=127.0.0.3
[ -z "$ended" ] || exit 143
setsid "$@" &
task=$!
[ -z "$ended" ] || kill -TERM "$task" 2>/dev/null
wait; wait
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*" >> "$ASKED"
[ "$1" != show ] || echo "   JobState=$JOB_STATE Reason=None"
"""
PYTHON = shlex.quote(sys.executable)
PROGRAMS = {
    "srun": SRUN,
    "scontrol": SCONTROL,
    # An environment's programs, whose own first lines name the folder that they were installed to.
    "orca2": f'#!/bin/bash\nexec {PYTHON} -m orca2_gen "$@"\n',
    "ray": f'#!/bin/bash\nexec {shlex.quote(str(BIN / "ray"))} "$@"\n',
    "python": f'#!/bin/bash\nexec {PYTHON} "$@"\n',
}


def start(
    folder: Path, *words: str, nodes: int = 2, state: str = "RUNNING"
) -> subprocess.Popen[str]:
    """The script as Slurm would start it on the first of its nodes; what it prints comes as text.

    It has a home of its own, and so a token of its own.
    """
    (folder / "bin").mkdir(exist_ok=True)
    for name, text in PROGRAMS.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    [port] = free_ports(1)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {
        "HOME": str(folder),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ASKED": str(folder / "asked"),
        "JOB_STATE": state,
        # Not 127.0.0.1, which Ray replaces by an address that other machines reach.
        "HEAD_ADDRESS": "127.0.0.2",
        "HEAD_PORT": str(port),
        "RAY_raylet_start_wait_time_s": "300",
        "SLURM_JOB_ID": JOB_ID,
        "SLURM_JOB_NUM_NODES": str(nodes),
    }
    return subprocess.Popen(
        ["bash", str(SCRIPT), *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def asked(folder: Path) -> list[str]:
    return (folder / "asked").read_text().splitlines() if (folder / "asked").exists() else []


def committed(run_dir: Path, stage: str) -> int:
    return len(read_ledger(run_dir).committed(stage)) if run_dir.exists() else 0


def assert_ray_is_gone() -> None:
    """Asserts that no process of Ray's was left with this job's folder, nor the folder."""
    temp = Path(f"/tmp/o2-{JOB_ID}")
    lines = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    assert [line for line in lines if str(temp) in line] == []
    assert not temp.exists()
    assert_nothing_runs()


def test_shellcheck_finds_nothing() -> None:
    program = shutil.which("shellcheck", path=f"{BIN}:{os.environ['PATH']}")
    assert program is not None, "not installed; `make setup` does that"
    found = subprocess.run([program, SCRIPT], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_signal_comes_long_before_the_limit_and_the_job_may_be_requeued() -> None:
    lines = re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", SCRIPT.read_text(), re.MULTILINE)
    options = dict(lines)
    assert len(options) == len(lines)
    target, _, seconds = options["signal"].partition("@")
    assert target == "B:TERM" and int(seconds) >= 60
    assert "requeue" in options and options["open-mode"] == "append"
    assert options["ntasks-per-node"] == "1"


@pytest.mark.parametrize("words", [[], ["config.toml"]], ids=["no config", "no environment"])
def test_what_is_missing_is_said_before_ray_starts(tmp_path: Path, words: list[str]) -> None:
    done = subprocess.run(
        ["bash", str(SCRIPT), *words],
        env={"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": JOB_ID, "SLURM_JOB_NUM_NODES": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == USAGE
    assert re.fullmatch(r"Error: .*\n", done.stderr)


@pytest.mark.slow
def test_a_dataset_is_made_on_two_nodes_and_ray_is_gone_afterwards(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = start(tmp_path, str(REHEARSAL), "--set", f"run_dir={run_dir}")
    printed, _ = process.communicate(timeout=500)
    assert process.returncode == 0, printed
    assert_ray_is_gone()
    assert verify(run_dir).findings == []
    assert (run_dir / "dataset" / "manifest.json").exists()
    [started, tidied] = asked(tmp_path)
    assert " --relative=1 " in started and " ray start " in started.replace("/ray ", " ray ")
    assert tidied.endswith(f" rm -rf /tmp/o2-{JOB_ID}")
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o077 == 0
    assert (tmp_path / ".ray" / "auth_token").read_text() not in printed


@pytest.mark.slow
def test_a_job_near_its_limit_requeues_itself_and_goes_on(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    words = [str(REHEARSAL), "--set", f"run_dir={run_dir}", "--set", "rows_per_unit=4"]
    process = start(tmp_path, *words, nodes=1)
    wait_until(process, lambda: committed(run_dir, "scores") > 0)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == INTERRUPTED, printed
    assert "Interrupted: what is committed stays" in printed
    assert asked(tmp_path)[-1] == f"scontrol requeue {JOB_ID}"
    assert_ray_is_gone()
    before = read_ledger(run_dir).units
    again = start(tmp_path, *words, nodes=1)
    printed, _ = again.communicate(timeout=500)
    assert again.returncode == 0, printed
    assert before.items() <= read_ledger(run_dir).units.items()
    assert verify(run_dir).findings == []
    assert_ray_is_gone()


@pytest.mark.slow
def test_a_job_that_was_cancelled_while_its_nodes_start_is_not_requeued(tmp_path: Path) -> None:
    process = start(tmp_path, str(REHEARSAL), nodes=3, state="CANCELLED")  # two come
    wait_until(process, lambda: bool(asked(tmp_path)))
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == INTERRUPTED, printed
    assert not [line for line in asked(tmp_path) if "requeue" in line]
    assert_ray_is_gone()
