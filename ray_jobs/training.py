"""Starts the training program in a process of its own, so that no engine and no Ray process shares
its memory.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from orca2_gen.config_schema import Config


def train_student(config_file: Path, overrides: Sequence[str], nproc_per_node: int = 1) -> None:
    """Runs `torchrun -m train.sft CONFIG` to its end.

    Raises:
        RuntimeError: it failed; it has said why on stderr.
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
    if code != 0:
        raise RuntimeError(
            f"the training program ended with exit code {code}; its own message stands above"
        )


def trained_student(config: Config) -> Path:
    """Where the training program leaves the student of a config."""
    return Path(config.training.output or Path(config.run_dir) / "student")
