"""A training run's output for people and plots: JSON lines, and a bar or plain lines."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orca2_gen.run_directory.appended_lines import append_line
from orca2_gen.run_directory.arrow_files import DamagedFile
from orca2_gen.run_directory.durable_files import write_bytes
from orca2_gen.run_directory.regular_files import UnusableFile, read_regular

if TYPE_CHECKING:
    from train.fit import StepMetrics

PLAIN_LINE_EVERY_STEPS = 10
RECENT_STEPS = 20
"""Steps whose mean tells the time that is left."""
MOST_METRICS_BYTES = 1 << 30
"""A step's line has about 200 bytes."""
_MOST_LINE_BYTES = 1 << 16


Log: TypeAlias = "Callable[[StepMetrics], None]"


@contextmanager
def step_log(metrics_file: Path, *, num_steps: int, start_step: int) -> Iterator[Log]:
    """A function that records a step: a JSON line in `metrics_file`, and progress on stderr.

    Lines of steps after `start_step`, left by a run that died after its last state, are dropped
    first, so that the file holds one curve. Those of the run's stages stay.

    Raises:
        DamagedFile: the file holds something else.
    """
    kept = [line for step, line in _steps(metrics_file) if step <= start_step]
    write_bytes(metrics_file, "".join(line + "\n" for line in kept).encode())
    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[tokens_per_second]:,.0f} tokens/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task(
            "training", total=num_steps, completed=start_step, loss=0.0, tokens_per_second=0.0
        )

        recent: deque[float] = deque(maxlen=RECENT_STEPS)
        unwritten: set[str] = set()

        def record(metrics: StepMetrics) -> None:
            recent.append(metrics.seconds)
            left = statistics.mean(recent) * (num_steps - metrics.step)
            try:
                line = json.dumps(asdict(metrics) | {"seconds_left": round(left)})
                append_line(metrics_file, line)
            except OSError as error:  # a curve is not worth the steps since the last state
                if (said := str(error)) not in unwritten:
                    bar.console.print(f"metrics are not written: {said}", soft_wrap=True)
                unwritten.add(said)
            bar.update(
                task,
                completed=metrics.step,
                loss=math.nan if metrics.loss is None else metrics.loss,
                tokens_per_second=metrics.tokens_per_second,
            )
            last = metrics.step == num_steps
            if bar.disable and (last or metrics.step % PLAIN_LINE_EVERY_STEPS == 0):
                print(_plain_line(metrics, num_steps, left), file=sys.stderr, flush=True)
            if metrics.held_out is not None:
                bar.console.print(_held_out_line(metrics.held_out, metrics.step), soft_wrap=True)

        yield record


def check_metrics(metrics_file: Path) -> None:
    """Checks that a file is absent or holds the lines of an earlier training.

    Raises:
        DamagedFile: it holds something else, which the lines of this one would replace.
    """
    for _ in _steps(metrics_file):
        pass


def _steps(path: Path) -> Iterator[tuple[int, str]]:
    """Each step and its whole line; a kill or a full disk may have cut lines short, which are left
    out.
    """
    try:
        text = read_regular(path, MOST_METRICS_BYTES).decode()
    except FileNotFoundError:
        return
    except UnusableFile as error:
        raise DamagedFile(f"{error}; move it away to train") from None
    except UnicodeDecodeError:
        raise DamagedFile(f"{path} is no file of metrics; move it away to train") from None
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
            is_cut = line.startswith("{") and len(line) < _MOST_LINE_BYTES
            if is_cut or not line:
                continue
        try:
            # Lines of the run's stages stand here too (orca2_gen/console/metrics.py).
            step = 0 if type(row.get("stage")) is str and "step" not in row else row["step"]
        except (LookupError, AttributeError):
            step = None
        if type(step) is not int:
            raise DamagedFile(
                f"{path}: line {number} holds no metrics of a step; move the file away to train"
            )
        yield step, line


def _plain_line(metrics: StepMetrics, num_steps: int, seconds_left: float) -> str:
    loss = "skipped" if metrics.loss is None else f"loss {metrics.loss:.4f}"
    mfu = "" if metrics.mfu is None else f"  MFU {metrics.mfu:.3f}"
    return (
        f"step {metrics.step}/{num_steps}  {loss}  learning rate {metrics.learning_rate:.3g}  "
        f"{metrics.tokens_per_second:,.0f} tokens/s{mfu}  {metrics.memory_mb:,.0f} MB  "
        f"{timedelta(seconds=round(seconds_left))} left"
    )


def _held_out_line(losses: Mapping[str, float], step: int) -> str:
    tasks = ", ".join(f"{task} {loss:.4f}" for task, loss in losses.items() if task != "all")
    return f"held out, after step {step}: loss {losses['all']:.4f} ({tasks})"
