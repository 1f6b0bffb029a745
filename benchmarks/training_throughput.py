"""How fast is training, beside a bare loop over the same tensors and beside TRL's SFTTrainer?

    python -m benchmarks.training_throughput [--hidden N] [--layers N] [--seq-len N] ...

A model of random weights is trained on examples of realistic lengths (log-normal, as answers to
GSM8K are), on a GPU if there is one. Each pair trains the same number of packed rows' worth of
examples in turn: as `orca2 train` does; as it does with every row packed; in a bare loop over these
packed rows, with the same loss on the labelled positions; in a bare loop over the passes that
`orca2 train` chose; and with TRL in each of its settings, the fastest of which counts. The last
line on stdout is one JSON document: medians over the pairs of tokens a second, ours over theirs.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.training.loops import bare, ours
from benchmarks.training.sizes import Data, Sizes, data_of, dtype_of, lengths_of, model_of
from benchmarks.training.with_trl import SETTINGS, trl
from train.fit import memory_mb
from train.flops import TrainingFlops, peak_flops, training_flops
from train.foreign_examples import load_foreign_examples
from train.packing import pack
from train.ranks import device


def packing_figures(sizes: Sizes, num_examples: int) -> dict[str, float]:
    """Seconds and fill of packing so many examples."""
    lengths = lengths_of(sizes, num_examples, np.random.default_rng(1))
    began = time.perf_counter()
    packing = pack(lengths, seq_len=sizes.seq_len, seed=0)
    return {
        "packed_examples": num_examples,
        "packing_seconds": round(time.perf_counter() - began, 2),
        "fill": round(packing.fill, 4),
    }


def reading_figures(sizes: Sizes, num_examples: int) -> dict[str, float]:
    """Seconds and memory of opening a saved dataset of so many examples, and seconds of a pass."""
    import datasets

    rng = np.random.default_rng(2)
    ids = [rng.integers(0, 4096, int(sizes.mean_tokens)) for _ in range(num_examples)]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "dataset"
        datasets.disable_progress_bars()
        datasets.Dataset.from_dict({"input_ids": ids}).save_to_disk(str(place))
        # In a process of its own, whose memory holds nothing that this one has made and freed.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return {"read_examples": num_examples} | pool.apply(_reading, (place,))


def _reading(place: Path) -> dict[str, float]:
    before = _own_mb()
    began = time.perf_counter()
    table = load_foreign_examples(place)
    opened = time.perf_counter()
    own_mb = _own_mb() - before
    for index in range(len(table)):
        table[index]
    return {
        "reading_seconds": round(opened - began, 2),
        "reading_mb": round(own_mb, 1),
        "pass_seconds": round(time.perf_counter() - opened, 2),
    }


def _own_mb() -> float:
    """Memory of this process in MB, without pages of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1000


def trials_of(sizes: Sizes, data: Data) -> dict[str, Callable[[], float]]:
    """Name of a trial -> what runs it."""
    named: dict[str, Callable[[], float]] = {
        "ours": lambda: ours(sizes, data),
        "ours_packed": lambda: ours(sizes, data, is_packed=True),
        "bare_packed": lambda: bare(sizes, data, is_packed=True),
        "bare_same_passes": lambda: bare(sizes, data, is_packed=False),
    }
    return named | {
        f"trl_{setting}": functools.partial(trl, sizes, data, setting) for setting in SETTINGS
    }


def figures_of(found: dict[str, list[float]], data: Data, flops: TrainingFlops) -> Any:
    """The document of the last line."""
    speeds = {name: median(speeds) for name, speeds in found.items()}

    def over(name: str) -> float:
        pairs = zip(found["ours"], found[name], strict=True)
        return round(median(mine / theirs for mine, theirs in pairs), 3)

    best = max((name for name in speeds if name.startswith("trl_")), key=speeds.__getitem__)
    peak = peak_flops(device(), dtype_of())
    lengths = np.array([len(each.input_ids) for each in data.examples], dtype=np.float64)
    per_token = flops.of(1.0, float((lengths**2).sum() / lengths.sum()))
    return {
        "over_bare_loop": over("bare_packed"),
        "over_bare_loop_same_passes": over("bare_same_passes"),
        "over_own_packed_rows": over("ours_packed"),
        "over_trl": over(best),
        "best_of_trl": best.removeprefix("trl_"),
        "tokens_per_second": round(speeds["ours"], 1),
        "mfu": round(speeds["ours"] * per_token / peak, 4) if peak else None,
        "all_tokens_per_second": {name: round(speed, 1) for name, speed in speeds.items()},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.training_throughput", description="Training beside others' loops."
    )
    on_gpu = torch.cuda.is_available()
    usual = {
        "hidden": 2048 if on_gpu else 512,
        "layers": 16 if on_gpu else 4,
        "vocabulary": 32_000 if on_gpu else 4096,
        "seq-len": 4096,
        "rows-per-step": 16 if on_gpu else 2,
        "rows-per-forward": 4 if on_gpu else 1,
        "steps": 10 if on_gpu else 2,
        "pairs": 3,
        "packed-examples": 1_000_000,
        "read-examples": 50_000,
    }
    for name, value in usual.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--mean-tokens", type=float, default=250.0)
    given = vars(parser.parse_args(arguments))
    extra = {name: given.pop(name) for name in ("packed_examples", "read_examples")}
    sizes = Sizes(**given)
    data = data_of(sizes)
    found: dict[str, list[float]] = {}
    memory = 0.0
    for pair in range(sizes.pairs):
        trials = list(trials_of(sizes, data).items())
        first = pair * len(trials) // sizes.pairs  # so that nobody is always the first
        for name, trial in trials[first:] + trials[:first]:
            speed = trial()
            found.setdefault(name, []).append(speed)
            memory = memory or memory_mb(device())  # our own loop comes first
            print(f"pair {pair + 1} {name}: {speed:,.0f} tokens/s", file=sys.stderr, flush=True)
    figures = figures_of(found, data, training_flops(model_of(sizes)))
    figures |= {"peak_memory_mb": memory}
    figures |= packing_figures(sizes, extra["packed_examples"])
    figures |= reading_figures(sizes, extra["read_examples"])
    figures["device"] = (
        torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
