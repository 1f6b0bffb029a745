"""A training run's output for people and plots: JSON lines, and a bar or plain lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from train.fit import StepMetrics

PLAIN_LINE_EVERY_STEPS = 10


@contextmanager
def step_log(
    metrics_file: Path, *, num_steps: int, start_step: int
) -> Iterator[Callable[[StepMetrics], None]]:
    """A function that records a step: a JSON line in `metrics_file`, and progress on stderr.

    Lines of steps after `start_step`, left by a run that died after its last state, are dropped
    first, so that the file holds one curve.
    """
    metrics_file.parent.mkdir(parents=True, exist_ok=True)
    kept = [line for line in _lines(metrics_file) if json.loads(line)["step"] <= start_step]
    metrics_file.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[tokens_per_second]:,.0f} tokens/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with open(metrics_file, "a", encoding="utf-8") as file, bar:
        task = bar.add_task(
            "training", total=num_steps, completed=start_step, loss=0.0, tokens_per_second=0.0
        )

        def record(metrics: StepMetrics) -> None:
            file.write(json.dumps(asdict(metrics)) + "\n")
            file.flush()
            bar.update(
                task,
                completed=metrics.step,
                loss=metrics.loss,
                tokens_per_second=metrics.tokens_per_second,
            )
            last = metrics.step == num_steps
            if bar.disable and (last or metrics.step % PLAIN_LINE_EVERY_STEPS == 0):
                print(_plain_line(metrics, num_steps), file=sys.stderr, flush=True)

        yield record


def _lines(path: Path) -> list[str]:
    """The whole lines of a file; a kill may have cut the last one short."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def _plain_line(metrics: StepMetrics, num_steps: int) -> str:
    return (
        f"step {metrics.step}/{num_steps}  loss {metrics.loss:.4f}  "
        f"learning rate {metrics.learning_rate:.3g}  {metrics.tokens_per_second:,.0f} tokens/s"
    )
