"""Host memory that the ranks of a training take to load a model, to write its state, between two
steps and beside them (`training.async_save`), and to write the student.

    python -m benchmarks.training_memory [--ranks 4] [--layers 12] [--hidden 1024]

Ranks run on the CPU with gloo, so their shares of the weights are in the host's memory too;
`beside_shares` leaves them out, as they lie on GPUs otherwise. Each phase's peak is VmHWM of
/proc/self/status, set back before it. The last line on stdout is one JSON document; sizes are MB of
10^6 bytes.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from train import state_files, student
from train.checkpoint import TrainingState
from train.loss import LabelledLoss
from train.model import load_sharded
from train.optimizers import build_optimizers
from train.pace import Pace
from train.ranks import joined_ranks, of_all_ranks, rank
from train.saving import Saver
from train.student import save_student

FILE_BYTES = 64_000_000
"""Bytes of a file of weights here: as few layers as 5 GB hold of a large model."""
STATE_FILE_BYTES = 12_000_000
"""Bytes of a file of a state here, for the same reason."""


def write_model(directory: Path, *, layers: int, hidden: int) -> int:
    """Writes a Llama with random weights in bfloat16 and returns the bytes of its weights."""
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(directory)
    return sum(2 * parameter.numel() for parameter in model.parameters())


def measure_rank(model_dir: Path, out: Path) -> None:
    """Loads and writes the model on this rank; rank 0 writes the figures of all to OUT.json."""
    student.FILE_BYTES = FILE_BYTES
    state_files.FILE_BYTES = STATE_FILE_BYTES
    with joined_ranks(threading.Event()):
        peaks: dict[str, float] = {}
        before = _resident()
        _forget_peak()
        loaded = load_sharded(model_dir, dtype=torch.float32)
        peaks["load"] = _peak() - before
        before = _resident()
        _forget_peak()
        save_student(loaded.loss.model, model_dir=model_dir, output_dir=out, record={})
        peaks["save"] = _peak() - before
        peaks |= _state_figures(loaded.loss, out.with_name("states"))
        found = of_all_ranks(peaks)
        if rank() == 0:
            out.with_suffix(".json").write_text(json.dumps(found))


def _state_figures(loss: LabelledLoss, directory: Path) -> dict[str, float]:
    """Bytes above what a rank had, and seconds that its steps wait, for a state in either way."""
    optimizers = build_optimizers(loss.model, optimizer="adamw", learning_rate=1e-5)
    for parameter in loss.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    state = TrainingState(directory=directory, module=loss, optimizers=optimizers, determinants={})
    found = {}
    for step, is_async in enumerate((False, True), 1):
        saver = Saver(state, Pace(None), is_async=is_async)
        before = _resident()
        _forget_peak()
        began = time.perf_counter()
        saver.save(step)
        way = "async" if is_async else "state"
        found[f"{way}_seconds"] = time.perf_counter() - began
        saver.finish()
        found[way] = _peak() - before
    return found


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    return _status("VmHWM")


def _resident() -> int:
    # What an earlier phase has freed would hide as much of the next.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return _status("VmRSS")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{key}:")]
    return 1024 * int(line.split()[1])


def figures(
    peaks: Sequence[dict[str, float]], weight_bytes: int, largest_file: int
) -> dict[str, Any]:
    """What the peaks of all ranks say.

    Args:
        peaks: of each rank, bytes of its phases above what it had before, and seconds that its
            steps wait for a state.
        weight_bytes: bytes of the weights in bfloat16.
        largest_file: bytes of the student's largest file of weights.
    """
    share = 2 * weight_bytes / len(peaks)  # in float32
    load_total = sum(each["load"] for each in peaks)
    beside = [max(0.0, each["load"] - share) for each in peaks]
    return {
        "ranks": len(peaks),
        "weights_bf16_mb": round(weight_bytes / 1e6, 1),
        "load_mb": [round(each["load"] / 1e6, 1) for each in peaks],
        "load_over_bf16": round(load_total / weight_bytes, 2),
        "load_beside_shares_over_bf16": round(sum(beside) / weight_bytes, 2),
        "every_rank_reads_over_bf16": float(2 * len(peaks)),
        "state_mb": round(6 * weight_bytes / 1e6, 1),
        "state_save_mb": [round(each["state"] / 1e6, 1) for each in peaks],
        "async_save_mb": [round(each["async"] / 1e6, 1) for each in peaks],
        "state_stall_seconds": round(max(each["state_seconds"] for each in peaks), 2),
        "async_stall_seconds": round(max(each["async_seconds"] for each in peaks), 2),
        "save_mb": [round(each["save"] / 1e6, 1) for each in peaks],
        "largest_file_mb": round(largest_file / 1e6, 1),
        "save_over_largest_file": round(max(each["save"] for each in peaks) / largest_file, 2),
        "gathered_save_mb": round(3 * weight_bytes / 1e6, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 if every rank loaded and wrote the model."""
    parser = argparse.ArgumentParser(prog="benchmarks.training_memory")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--rank-of", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.rank_of:
        measure_rank(*options.rank_of)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        model, out = Path(folder, "model"), Path(folder, "student")
        weight_bytes = write_model(model, layers=options.layers, hidden=options.hidden)
        command = [sys.executable, "-m", "train.launch", "--standalone"]
        command += [f"--nproc-per-node={options.ranks}", "-m", "benchmarks.training_memory"]
        command += ["--rank-of", str(model), str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        if code := subprocess.run(command, env=environment).returncode:
            return code
        peaks = json.loads(out.with_suffix(".json").read_text())
        largest = max(file.stat().st_size for file in out.glob("*.safetensors"))
        found = figures(peaks, weight_bytes, largest)
    table = Table("figure", "value", title="Host memory of a training's ranks")
    for name, value in found.items():
        table.add_row(name, str(value))
    Console(width=100).print(table)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
