"""Ray on machines, started as docs/cluster.md says, and drivers on them."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import NUM_SUMS
from tests.faults.faulty import RESOURCE, plant
from tests.machines.namespaces import Machine
from tests.pins import ROOT

BLOCK = re.compile(r"^## Starting Ray$.*?^```sh$\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SIZES = ("--num-cpus=1", "--object-store-memory=100000000")
"""What the documentation leaves to Ray: all that the host has."""
ENGINES = '--resources={"engines": 1}'
"""An option of a node that takes one of the engines of `drive_slowly`: it stands for a GPU."""
DASHBOARD = "http://127.0.0.1:8265"
PORT = 6379


def documented(begin: str) -> str:
    """The documented command that begins so, after the lines that every shell needs."""
    [block] = BLOCK.findall((ROOT / "docs" / "cluster.md").read_text())
    lines = [re.sub(r"\s*#.*", "", line) for line in block.splitlines()]
    [found] = [line for line in lines if line.startswith(begin)]
    return "\n".join([*(line for line in lines if line.startswith("export ")), found])


def typed(machine: Machine, command: str, *more: str) -> str:
    """What a machine's shell prints when a command is typed there with more words."""
    return machine.run("bash", "-ec", f"{command} {shlex.join(more)}", seconds=400.0)


def start_head(machine: Machine, *options: str) -> None:
    typed(machine, documented("(umask 077; ray get-auth-token"))
    typed(machine, documented("ray start --head"), *SIZES, *options)


def join(machine: Machine, head: Machine, *options: str) -> None:
    """Gives a machine the head's token, and makes it a node."""
    token = head.run("bash", "-c", "cat ~/.ray/auth_token")
    keep = "umask 077; mkdir -p ~/.ray; cat > ~/.ray/auth_token"
    machine.run("bash", "-ec", keep, input=token)
    start = documented("ray start --address").replace("HEAD", head.name)
    typed(machine, start, *SIZES, *options)


@dataclass(frozen=True, kw_only=True)
class Driver:
    """A command that drives a run on a machine."""

    process: subprocess.Popen[str]
    output: Path

    @property
    def printed(self) -> str:
        return self.output.read_text()

    def wait_until(self, condition: Callable[[], bool], seconds: float = 300.0) -> None:
        """Waits until the condition holds.

        Raises:
            AssertionError: the driver ended before, or the time is up.
        """
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < end, f"the time is up: {self.printed}"
            time.sleep(0.05)

    def ended(self, seconds: float = 400.0) -> tuple[int, str]:
        """The exit code, and what was printed."""
        try:
            return self.process.wait(timeout=seconds), self.printed
        except subprocess.TimeoutExpired:
            raise AssertionError(f"has not ended: {self.printed}") from None


def drive(
    machine: Machine,
    head: Machine,
    config: Path,
    run_dir: Path,
    *sets: str,
    program: str = "orca2",
    **variables: str,
) -> Driver:
    """`orca2 run` on a node of the cluster, as docs/cluster.md says.

    Args:
        machine: machine of the driver.
        head: machine of the cluster's head.
        config: config file.
        run_dir: directory of the run.
        sets: further overrides.
        program: another command with the same words.
        variables: further variables of the driver.
    """
    values = [f"run_dir={run_dir}", "dispatch.backoff_seconds=0.1", *sets]
    words = ["run", str(config), *(word for value in values for word in ("--set", value))]
    return _driver(
        machine,
        f"{program} {shlex.join(words)}",
        run_dir,
        RAY_AUTH_MODE="token",
        RAY_ADDRESS=f"{head.name}:{PORT}",
        **variables,
    )


def plant_slow_problems(run_dir: Path, seconds: float) -> None:
    """Plans problems that take so long, and of which no block is done before both engines began."""
    problems = [f"sums/train/s{number}" for number in range(NUM_SUMS)]
    logs = {name: f"engines/*-{number % 2}.log" for number, name in enumerate(problems)}
    plant(run_dir, slow=dict.fromkeys(problems, seconds), waits_for=logs)


def drive_slowly(
    machine: Machine, head: Machine, config: Path, run_dir: Path, *sets: str
) -> Driver:
    """The same with engines whose faults a test plants, one on each node with room for one."""
    program = "python -m tests.faults.faulty"
    return drive(machine, head, config, run_dir, *sets, program=program, **{RESOURCE: "engines=1"})


def submit(machine: Machine, config: Path, run_dir: Path, *sets: str) -> Driver:
    """`orca2 submit` on the head."""
    values = [f"run_dir={run_dir}", *sets]
    words = [word for value in values for word in ("--set", value)]
    command = documented("orca2 submit").replace("CONFIG", shlex.quote(str(config)))
    return _driver(machine, f"{command} {shlex.join(words)}", run_dir)


def _driver(machine: Machine, script: str, run_dir: Path, **variables: str) -> Driver:
    output = run_dir.parent / f"{machine.name}-{time.monotonic_ns()}.out"
    # The repository's own sources, wherever the environment was made.
    variables |= {"PYTHONPATH": str(ROOT)}
    process = machine.start("bash", "-ec", script, output=output, **variables)
    return Driver(process=process, output=output)


def wait_for_nodes(machine: Machine, head: Machine, number: int) -> None:
    """Waits until so many nodes have joined."""
    address = (f"RAY_ADDRESS={head.name}:{PORT}", "RAY_AUTH_MODE=token")
    machine.run("env", *address, "python", "-m", "ray_jobs.nodes", str(number), seconds=300.0)


def cluster_of(
    head: Machine, *others: Machine, head_options: Sequence[str] = (), options: Sequence[str] = ()
) -> None:
    """Makes a cluster of machines, and waits until all have joined."""
    start_head(head, *head_options)
    for machine in others:
        join(machine, head, *options)
    wait_for_nodes(head, head, 1 + len(others))


def hosts_of_engines(run_dir: Path) -> set[str]:
    """The machines on which an engine of a run has been up."""
    logs = (path.read_text(errors="replace") for path in (run_dir / "engines").glob("*.log"))
    return {host for log in logs for host in re.findall(r" is up on (\S+)", log)}
