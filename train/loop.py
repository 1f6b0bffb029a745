"""The stages of a training one after the other, from the last complete state to the end."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.distributed.fsdp import FSDPModule

from orca2_gen.run_directory.arrow_files import DamagedFile
from train.architecture import causal_share
from train.batches import packed_batches
from train.checkpoint import TrainingState
from train.fit import NotFiniteError, StepMetrics, fit
from train.flops import TrainingFlops, peak_flops
from train.held_out import HeldOut
from train.isolation import Isolation
from train.layouts import RowCosts
from train.optimizers import Schedule, forget
from train.pace import Pace
from train.plan import Execution, TrainingPlan
from train.progress import Log, step_log
from train.ranks import rank, world_size
from train.saving import Saver
from train.spikes import Spikes
from train.stages import Stage
from train.stalls import watched_steps
from train.tensorboard import tensorboard_log

NAMES_SHOWN = 5
MOST_SHARDED_PASSES = 1.25
"""Most passes over those of packed rows where layers are sharded: each gathers their weights, which
fast networks hide behind some computation and slow ones do not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loop:
    """All that the steps of a training need."""

    plan: TrainingPlan
    execution: Execution
    stages: tuple[Stage, ...]
    isolation: Isolation
    state: TrainingState
    pace: Pace
    flops: TrainingFlops
    held_out: HeldOut | None = None

    def run(self, start_step: int, metrics_file: Path) -> None:
        """Trains in place from `start_step` to the end of the last stage, and saves the state.

        Raises:
            DamagedFile: there are fewer steps than that.
            NotFiniteError: the loss is not finite; the state before it is saved.
            KeyboardInterrupt: the pace wants to stop; the state is saved.
        """
        num_steps = self.stages[-1].end_step
        if start_step > num_steps:
            raise DamagedFile(
                f"{self.state.directory} holds step {start_step} of a training of {num_steps} "
                "steps; remove it to start the training again"
            )
        self.pace.saved(start_step)
        saver = Saver(self.state, self.pace, is_async=self.execution.async_save)
        with (
            self._log(metrics_file, start_step) if rank() == 0 else nullcontext(_nothing) as log,
            watched_steps() as step_done,
        ):
            done, spikes = start_step, Spikes()
            for stage in self.stages:
                if done < stage.end_step:
                    begin = max(done, stage.first_step)
                    done, is_stopped = self._fit(stage, begin, _both(log, step_done), spikes, saver)
                    if is_stopped:
                        break
        for part in self.state.module.modules():
            if isinstance(part, FSDPModule):  # what a held-out pass gathered would hide a change
                part.reshard()
        saver.finish()
        if done == num_steps and self.pace.saved_step < done:
            saver.save(done)  # should writing the student fail
            saver.finish()
        if done < num_steps:
            raise KeyboardInterrupt(
                f"the state of step {done} of {num_steps} is saved in {self.state.directory}; run "
                "the same command again to go on"
            )

    @contextmanager
    def _log(self, metrics_file: Path, start_step: int) -> Iterator[Log]:
        folder = metrics_file.with_name(_tensorboard_name(metrics_file))
        num_steps = self.stages[-1].end_step
        with (
            step_log(metrics_file, num_steps=num_steps, start_step=start_step) as to_file,
            tensorboard_log(
                folder if self.execution.tensorboard else None, start_step=start_step
            ) as to_tensorboard,
        ):

            def log(metrics: StepMetrics) -> None:
                to_file(metrics)
                to_tensorboard(metrics)

            yield log

    def _fit(
        self, stage: Stage, start_step: int, log: Log, spikes: Spikes, saver: Saver
    ) -> tuple[int, bool]:
        """The steps done after training on a stage from a step on, and whether to stop there.

        Steps are counted over all stages.
        """
        if start_step == stage.first_step and stage.plan.optimizer_state == "reset":
            forget(self.state.optimizers)
        local = start_step - stage.first_step
        batches = packed_batches(
            stage.mixture,
            rows_per_step=self.plan.rows_per_step,
            seed=stage.seed,
            layout=self.isolation.layout,
            costs=self._costs,
            rows_per_forward=self.execution.rows_per_forward,
            start_step=local,
            rank=rank(),
            world_size=world_size(),
        )
        schedule = Schedule(
            learning_rate=stage.plan.learning_rate,
            num_steps=stage.num_steps,
            warmup_fraction=stage.plan.warmup_fraction,
            decay=stage.plan.schedule,
        )

        def told(metrics: StepMetrics) -> None:
            log(metrics)
            if metrics.loss is not None and spikes.is_one(metrics.loss) and rank() == 0:
                examples = self._examples(stage, metrics.step)
                line = f"step {metrics.step}: loss {metrics.loss:.4f} stands out; {examples}"
                print(line, file=sys.stderr, flush=True)

        def wishes(step: int) -> tuple[bool, bool]:
            saver.finish_if_written()
            return self.pace.wishes(step)

        try:
            return fit(
                self.state.module,
                batches,
                self.state.optimizers,
                schedule,
                max_grad_norm=self.plan.max_grad_norm,
                gradient_sync=self.execution.gradient_sync,
                start_step=local,
                first_step=stage.first_step,
                skip_steps=self.plan.skip_steps,
                wishes=wishes,
                mfu=self._mfu,
                held_out=self._held_out,
                log=told,
                save=saver.save,
            )
        except NotFiniteError as error:
            saver.finish()
            if error.step - 1 > self.pace.saved_step:
                saver.save(error.step - 1)
                saver.finish()
            raise NotFiniteError(
                error.step, f"{error}, {self._advice(stage, error.step)}"
            ) from None

    @property
    def _costs(self) -> RowCosts | None:
        """What chooses the rows of a pass; None where they are as they are packed."""
        # A router's loss is a figure of a row, so with other rows it would be another one.
        is_free = self.isolation.may_part and self.state.module.router is None
        if self.execution.layout == "packed" or not is_free:
            return None
        return RowCosts(
            operations=self.flops.of,
            causal_share=causal_share(self.state.module.model, self.plan.seq_len),
            most_passes=MOST_SHARDED_PASSES if world_size() > 1 else math.inf,
        )

    def _mfu(self, num_tokens: int, squares: int, seconds: float) -> float | None:
        device = next(self.state.module.parameters()).device
        peak = peak_flops(device, getattr(torch, self.plan.dtype))
        if peak is None:
            return None
        return self.flops.of(num_tokens, squares) / (seconds * peak * world_size())

    def _held_out(self, step: int) -> dict[str, float] | None:
        every, last = self.execution.eval_steps, self.stages[-1].end_step
        if self.held_out is None or (step != last and (every is None or step % every)):
            return None
        return self.held_out.losses(self.state.module)

    def _advice(self, stage: Stage, step: int) -> str:
        skipped = [*self.plan.skip_steps, step]
        kept = "which are saved" if step > 1 else "the first"
        return (
            f"{kept}; {self._examples(stage, step)}. Go on without this step by --set "
            f"training.skip_steps={skipped}, or with another learning rate by --set "
            f"training.learning_rate=RATE --override"
        )

    def _examples(self, stage: Stage, step: int) -> str:
        """The examples of a step, for people."""
        names = stage.names_in(step, self.plan.rows_per_step)
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        return f"its examples are {', '.join(names[:NAMES_SHOWN])}{more}"


def _tensorboard_name(metrics_file: Path) -> str:
    """`tensorboard` beside RUN/metrics.jsonl, OUTPUT.tensorboard beside OUTPUT.metrics.jsonl."""
    output = metrics_file.name.removesuffix("metrics.jsonl").rstrip(".")
    return f"{output}.tensorboard" if output else "tensorboard"


def _both(log: Log, step_done: Callable[[], None]) -> Log:
    def told(metrics: StepMetrics) -> None:
        step_done()
        log(metrics)

    return told


def _nothing(metrics: StepMetrics) -> None:
    pass
