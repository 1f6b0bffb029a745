"""Starts the training program in a process that shares no memory with an engine or with Ray."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from orca2_gen.config.schema import Config
from orca2_gen.exit_codes import USAGE


def train_student(config_file: Path, overrides: Sequence[str], nproc_per_node: int = 1) -> None:
    """Runs `python -m train.sft CONFIG`, or torchrun with several processes, to its end.

    Args:
        config_file: the run's config.
        overrides: `KEY=VALUE` settings that override the file's.
        nproc_per_node: torchrun's option of this name.

    Raises:
        ValueError: the program refused the config or the dataset; torchrun hides that behind its
            own exit code, 1.
        RuntimeError: the program failed; its message is on stderr.
    """
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={nproc_per_node}",
    ]
    program = ["-m", "train.sft", str(config_file)]
    for override in overrides:
        program += ["--set", override]
    if nproc_per_node == 1:
        launcher, program = [sys.executable], program
    code = subprocess.run([*launcher, *program], check=False).returncode
    if code == 0:
        return
    ended = f"the training program ended with exit code {code}; see its own message above"
    raise ValueError(ended) if code == USAGE else RuntimeError(ended)


def trained_student(config: Config) -> Path:
    """The directory in which the training program leaves the student of a config."""
    return Path(config.training.output or Path(config.run_dir) / "student")
