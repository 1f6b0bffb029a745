"""One rank fails while the others wait for it, as inside a collective: all of them end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from orca2_gen.exit_codes import FAILED
from tests.faults.heads import free_ports

QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR"}  # as `orca2 train` has it
HEAD = """
import os, signal, sys, threading, time
from train import failures
from train.failures import leave
from train.ranks import joined_ranks, on_first_rank, rank
failures.SILENT_SECONDS = 3.0
failures.GONE_SECONDS = 3.0
"""
WAIT_FOR_EVER = """
    print("waits", flush=True)
    while True:
        time.sleep(600)
"""


def ranks_of(program: str, num: int = 2) -> list[subprocess.Popen[str]]:
    """Ranks without a launcher that looks after them, as ranks of other nodes are to each other."""
    shared = {
        "WORLD_SIZE": str(num),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_ports(1)[0]),
    }
    return [
        subprocess.Popen(
            [sys.executable, "-c", HEAD + program],
            env=os.environ | shared | {"RANK": str(number), "PYTHONPATH": os.getcwd()} | QUIET,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(num)
    ]


def ended(ranks: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and stderr of each rank."""
    try:
        said = [each.communicate(timeout=60)[1] for each in ranks]
    finally:
        for each in ranks:
            each.kill()
    return [(each.returncode, text) for each, text in zip(ranks, said, strict=True)]


@pytest.mark.parametrize("failing", [0, 1])
def test_a_rank_that_leaves_takes_the_others_with_it(failing: int) -> None:
    program = f"""
with joined_ranks(threading.Event()):
    if rank() == {failing}:
        print("Error: enough", file=sys.stderr, flush=True)
        leave(3)
{WAIT_FOR_EVER}
"""
    found = ended(ranks_of(program))
    assert [code for code, _ in found] == [3, 3]
    assert "Error: enough" in found[failing][1] and "Error" not in found[1 - failing][1]


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_that_is_killed_or_answers_no_more_is_missed(
    killed: int, way: signal.Signals
) -> None:
    ranks = ranks_of(f"with joined_ranks(threading.Event()):{WAIT_FOR_EVER}")
    for each in ranks:
        assert each.stdout is not None and each.stdout.readline() == "waits\n"
    time.sleep(2)  # it has been heard of
    ranks[killed].send_signal(way)
    code = ranks[1 - killed].wait(60)
    ranks[killed].kill()
    assert ranks[1 - killed].stderr is not None
    said = ranks[1 - killed].stderr.read()
    assert code == FAILED
    # The store lies in rank 0 here; torchrun keeps it in the first node's launcher.
    missed = "rank 1 has not been heard of" if killed else "launcher of the first node has not"
    assert missed in said and said.count("\n") == 1
    ended(ranks)


def test_what_the_first_rank_finds_all_find_and_what_it_raises_all_raise() -> None:
    program = """
from orca2_gen.run_directory.lock import RunInUse
def refuse():
    raise RunInUse("taken")
with joined_ranks(threading.Event()):
    assert on_first_rank(lambda: rank()) == 0
    try:
        on_first_rank(refuse)
    except RunInUse as error:
        print(str(error), file=sys.stderr, flush=True)
"""
    assert [(code, said.strip()) for code, said in ended(ranks_of(program))] == [(0, "taken")] * 2
