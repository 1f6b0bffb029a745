"""A first look at a GPU host that is at hand for ten minutes, without a network.

    python -m benchmarks.first_light --out DIR                 ten minutes on one GPU
    python -m benchmarks.first_light --out DIR --only NAME ... these steps
    python -m benchmarks.first_light --out DIR --tiny          everything small, on a CPU as well

Each step runs in a process of its own with its own time limit, so that one which hangs or crashes
costs only itself; what it has measured until then is kept. `--seconds` is for all steps together:
near its end they are shortened or left out, with the reason. DIR/report.json holds the outcomes so
far after each step, DIR/STEP.log what a step printed. The two models are random weights in the
shapes of Llama 3.2 1B and Llama 3.1 8B, made here; `--cache DIR` keeps them, and what vLLM has
compiled, for another call. Steps that need a package which the host lacks (Ray, pyarrow) are left
out with its name.

The last line on stdout is one JSON document: DIR/report.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from benchmarks.host.children import INTERRUPTED, adopt_orphans, end_descendants, run_child
from benchmarks.host.report import document, step_table, write_report
from benchmarks.host.steps import (
    MODELS,
    NAMES,
    PREFLIGHT,
    STEPS,
    TINY_MODELS,
    Outcome,
    Step,
    Task,
    chosen,
    reason_against,
)
from orca2_gen.offline import OFFLINE_ENVIRONMENT

SECONDS = 540.0
TINY_SECONDS = 1200.0
INTERRUPTED_CODE = 75


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 if a step has failed or was cut off, 75 if all were interrupted."""
    options = _options(arguments)
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    adopt_orphans()
    outcomes: list[Outcome] = []
    started = time.monotonic()
    is_interrupted = False
    with _folder(options.cache) as folder:
        try:
            for step in chosen(options.only or (), options.skip):
                seconds_left = started + options.seconds - time.monotonic()
                print(f"{step.name}: {step.what} ...", file=sys.stderr, flush=True)
                outcomes.append(_outcome(step, outcomes, folder, options, seconds_left))
                _tell(outcomes[-1])
                write_report(out, _document(outcomes, options, started))
                if is_interrupted := outcomes[-1].reason == INTERRUPTED:
                    break
        except KeyboardInterrupt:
            is_interrupted = True
            end_descendants(leave_seconds=0)
    told = _document(outcomes, options, started, is_interrupted=is_interrupted)
    write_report(out, told)
    models = ", ".join((TINY_MODELS if options.tiny else MODELS).values())
    print(f"First look: {models}; {told['seconds']} s")
    print(step_table(outcomes))
    print(json.dumps(told), flush=True)
    if is_interrupted:
        return INTERRUPTED_CODE
    return int(any(outcome.ended in ("failed", "cut off") for outcome in outcomes))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    steps = "".join(f"\n    {step.name:18}{step.what}" for step in STEPS)
    parser = argparse.ArgumentParser(
        prog="benchmarks.first_light",
        description=f"{__doc__}\nSteps:{steps}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("runs/first_light"), metavar="DIR")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="a temporary one if not given")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="STEP")
    parser.add_argument("--skip", nargs="+", choices=NAMES, metavar="STEP", default=())
    parser.add_argument(
        "--seconds", type=float, help=f"of all; {SECONDS:.0f}, {TINY_SECONDS:.0f} with --tiny"
    )
    parser.add_argument("--tiny", action="store_true", help="everything small")
    options = parser.parse_args(arguments)
    if options.seconds is None:
        options.seconds = TINY_SECONDS if options.tiny else SECONDS
    if options.seconds <= 0:
        parser.error(f"--seconds is {options.seconds:g}; give a positive number")
    return options


def _outcome(
    step: Step,
    outcomes: Sequence[Outcome],
    folder: Path,
    options: argparse.Namespace,
    seconds_left: float,
) -> Outcome:
    """What became of a step."""
    before = {outcome.step: outcome for outcome in outcomes}
    if reason := reason_against(step, before, seconds_left, is_tiny=options.tiny):
        return Outcome(step=step.name, ended="left out", reason=reason)
    out: Path = options.out.resolve()
    models = TINY_MODELS if options.tiny else MODELS
    on_gpu = step is not PREFLIGHT and before[PREFLIGHT.name].figures["on_gpu"]
    task = Task(
        step=step.name,
        module=step.module,
        models=[models[name] for name in step.models],
        folder=str(folder),
        figures_file=str(out / f"{step.name}.json"),
        seconds=min(step.seconds, seconds_left),
        is_tiny=options.tiny,
        on_gpu=on_gpu,
        devices=step.devices,
    )
    return run_child(task, out / f"{step.name}.log", environment_of(task))


def environment_of(task: Task) -> dict[str, str]:
    """The variables of a step: no network, caches in its folder, and the GPUs that it takes."""
    folder = Path(task.folder)
    found = OFFLINE_ENVIRONMENT | {
        "OMP_WAIT_POLICY": "passive",
        "VLLM_CACHE_ROOT": str(folder / "vllm"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        # For ray.data.llm as well: our own engines set it themselves (orca2_gen/engine.py).
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        "RAY_ADDRESS": "",  # this host is measured, not the cluster that it may belong to
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # nvidia-smi's
    }
    if task.on_gpu and task.devices:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(task.devices)))
        found["CUDA_VISIBLE_DEVICES"] = ",".join(visible.split(",")[: task.devices])
    return found


def _document(
    outcomes: Sequence[Outcome],
    options: argparse.Namespace,
    started: float,
    *,
    is_interrupted: bool = False,
) -> dict[str, object]:
    return document(
        outcomes,
        tiny=options.tiny,
        seconds=round(time.monotonic() - started, 1),
        seconds_given=options.seconds,
        interrupted=is_interrupted,
    )


def _tell(outcome: Outcome) -> None:
    why = f" ({outcome.reason})" if outcome.reason else ""
    print(f"    {outcome.ended}, {outcome.seconds:.0f} s{why}", file=sys.stderr, flush=True)


@contextmanager
def _folder(cache: Path | None) -> Iterator[Path]:
    """The directory of models and caches, which is gone afterwards unless it was given."""
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        yield cache.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="first-light-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
