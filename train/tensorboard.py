"""The metrics of a training as TensorBoard shows them.

The package is large and most do not need it, so it is the extra `orca2-gen[tensorboard]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from train.fit import StepMetrics

_SCALARS = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "fill", "memory_mb", "mfu")


@contextmanager
def tensorboard_log(
    folder: Path | None, *, start_step: int
) -> Iterator[Callable[[StepMetrics], None]]:
    """A function that records a step in TensorBoard's files; one that does nothing without a
    folder.

    What a run that died recorded after its last state is marked as void.
    """
    if folder is None:
        yield lambda metrics: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=start_step + 1) as writer:

        def record(metrics: StepMetrics) -> None:
            for name in _SCALARS:
                if (value := getattr(metrics, name)) is not None:
                    writer.add_scalar(name, value, metrics.step)
            for task, loss in (metrics.held_out or {}).items():
                writer.add_scalar(f"held_out/{task}", loss, metrics.step)

        yield record
