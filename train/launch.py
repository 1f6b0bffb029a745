"""Starts the training program in processes that share no memory with an engine or with Ray.

`python -m train.launch` takes torchrun's arguments and ends in another way: with the exit code of
the first rank that failed and no report beside that rank's own line. Its ranks end with it even if
it is killed.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from orca2_gen.config.schema import Config
from orca2_gen.exit_codes import FAILED, INTERRUPTED, USAGE
from train.failures import CHECK_SECONDS
from train.ranks import LAUNCHER_VARIABLE, SAVING_SECONDS, end_with

PARENT_VARIABLE = "ORCA2_PARENT"
"""Variable of the environment with the process id of the command that started the launcher."""

STUCK_SECONDS = 60.0
"""Seconds in which torchrun takes note of a rank that has ended, a hundred times over."""


def train_student(
    config_file: Path,
    overrides: Sequence[str],
    nproc_per_node: int = 1,
    *,
    may_change: bool = False,
) -> None:
    """Runs `python -m train.sft CONFIG`, in several processes as torchrun does, to its end.

    Args:
        config_file: the run's config.
        overrides: `KEY=VALUE` settings that override the file's.
        nproc_per_node: torchrun's option of this name.
        may_change: whether a state is continued though the plan differs in what may change.

    Raises:
        ValueError: the program refused the config or the dataset.
        RuntimeError: the program failed; its message is on stderr.
        KeyboardInterrupt: it was interrupted, and has saved its state.
    """
    launcher = [
        sys.executable,
        "-m",
        "train.launch",
        "--standalone",
        f"--nproc-per-node={nproc_per_node}",
        f"--shutdown_timeout={SAVING_SECONDS:.0f}",
    ]
    program = ["-m", "train.sft", str(config_file)]
    for override in overrides:
        program += ["--set", override]
    program += ["--override"] * may_change
    if nproc_per_node == 1:
        launcher, program = [sys.executable], program
    code = _ended([*launcher, *program])
    if code == 0:
        return
    if code == INTERRUPTED:  # its state is saved, and it has said so
        raise KeyboardInterrupt
    ended = f"the training program ended with exit code {code}; see its own message above"
    raise ValueError(ended) if code == USAGE else RuntimeError(ended)


def _ended(command: Sequence[str]) -> int:
    """The exit code of a command, which an interrupt of this process reaches as SIGTERM."""
    own = str(os.getpid())
    environment = {
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        **os.environ,
    }  # less is stack traces of bystanders
    environment |= {PARENT_VARIABLE: own, LAUNCHER_VARIABLE: own}
    with subprocess.Popen(command, env=environment) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # it saves its state, and ends by itself
                process.terminate()


def trained_student(config: Config) -> Path:
    """The directory in which the training program leaves the student of a config."""
    return Path(config.training.output or Path(config.run_dir) / "student")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of a program's ranks, started with torchrun's arguments."""
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.run import parse_args, run

    if parent := os.environ.get(PARENT_VARIABLE):
        end_with(int(parent), lambda: os.kill(os.getpid(), signal.SIGTERM))
    os.environ[LAUNCHER_VARIABLE] = str(os.getpid())
    threading.Thread(target=_end_if_stuck, daemon=True).start()
    # They say of each rank that it ended, which the rank itself has said better, and that
    # OMP_NUM_THREADS is set to 1.
    for name in ("torch.distributed.elastic", "torch.distributed.run"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        run(parse_args(arguments))
    except ChildFailedError as error:
        failed_rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return int(failure.exitcode)
        # A rank that is killed says nothing.
        print(_killed_line(failed_rank, -failure.exitcode), file=sys.stderr, flush=True)
        return FAILED
    except (RendezvousError, DistError) as error:
        _say_lost(" ".join(str(error.__cause__ or error).split())[:200])
        return FAILED
    except SignalException as error:  # the ranks have ended by then
        print(f"stopped by {error.sigval.name}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _end_if_stuck() -> None:
    """Ends this process if a rank has ended and nobody has taken note of it.

    torchrun asks the first node's launcher whether nodes wait to join, and where that node was cut
    off, it waits for an answer until TCP gives up, a quarter of an hour later.
    """
    seen, since = 0, 0.0
    while True:
        time.sleep(CHECK_SECONDS)
        ended = None
        with suppress(ChildProcessError):  # no rank yet, or none any more
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None or ended.si_pid != seen:
            seen, since = 0 if ended is None else ended.si_pid, time.monotonic()
        elif time.monotonic() - since > STUCK_SECONDS:
            _say_lost(f"no answer for {STUCK_SECONDS:.0f} s after a rank has ended")
            os._exit(FAILED)


def _say_lost(reason: str) -> None:
    print(
        f"Error: the launcher on {socket.gethostname()} has lost that of the first node, or cannot "
        f"reach it ({reason}); look at that node, then run the same command again",
        file=sys.stderr,
        flush=True,
    )


def _killed_line(failed_rank: int, number: int) -> str:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    line = f"Error: rank {failed_rank} on {socket.gethostname()} was ended by {name}"
    if number != signal.SIGKILL:
        return line
    return (
        f"{line}, as the system does when the host runs out of memory; `orca2 plan` says what a "
        "training takes, and fewer processes a node take less"
    )


if __name__ == "__main__":
    sys.exit(main())
