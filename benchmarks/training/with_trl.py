"""TRL's SFTTrainer, timed on the examples that our own loop trains."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch

from benchmarks.training.sizes import LEARNING_RATE, WARM_STEPS, Data, Sizes, model_of
from train.ranks import device

SETTINGS = ("packed", "flattened", "padded")
"""Packed rows (best fit), the examples of a pass in one row, and padded rows of like length."""


def trl(sizes: Sizes, data: Data, setting: str) -> float:
    """Tokens without padding that SFTTrainer trains in a second, in one of SETTINGS."""
    import datasets
    from trl import SFTTrainer

    datasets.disable_progress_bars()
    counted: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        arguments = _arguments(sizes, setting, folder)
        clock = _clock()
        rows = [
            {"input_ids": each.input_ids.tolist(), "labels": each.labels.tolist()}
            for each in data.examples
        ]
        trainer = SFTTrainer(
            model=model_of(sizes),
            args=arguments,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=_tokenizer(),
            callbacks=[clock],
        )
        collate = trainer.data_collator

        def counting(rows: list[Any]) -> Any:
            counted.append(sum(len(row["input_ids"]) for row in rows))
            return collate(rows)

        trainer.data_collator = counting
        trainer.train()
    passes = arguments.gradient_accumulation_steps
    # Batches are trained in the order in which they are made; some are made ahead.
    measured = counted[WARM_STEPS * passes : (WARM_STEPS + sizes.steps) * passes]
    return sum(measured) / float(clock.ends[-1] - clock.ends[WARM_STEPS - 1])


def _clock() -> Any:
    """A callback of the trainer that keeps the time of each step's end, in `ends`."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if device().type == "cuda":
                torch.cuda.synchronize()
            self.ends.append(time.perf_counter())

    return Clock()


def _arguments(sizes: Sizes, setting: str, folder: str) -> Any:
    """The trainer's arguments: as many tokens in a step as ours.

    Packed and flattened, all of a pass becomes one row, whose mask would grow with its square; so a
    pass is one row of ours. The kernels for several are a package of their own, for GPUs.
    """
    from trl import SFTConfig

    is_packed = setting == "packed"
    rows = sizes.rows_per_forward if setting == "padded" else 1
    examples = max(1, round(rows * sizes.seq_len / sizes.mean_tokens))
    return SFTConfig(
        output_dir=folder,
        max_length=None if setting == "flattened" else sizes.seq_len,
        packing=is_packed,
        padding_free=setting == "flattened",
        per_device_train_batch_size=1 if is_packed else examples,
        gradient_accumulation_steps=max(1, sizes.rows_per_step // rows),
        max_steps=sizes.steps + WARM_STEPS,
        learning_rate=LEARNING_RATE,
        weight_decay=0.0,
        lr_scheduler_type="constant",
        train_sampling_strategy="group_by_length" if setting == "padded" else "random",
        bf16=device().type == "cuda",
        use_cpu=device().type == "cpu",
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": not is_packed},
    )


def _tokenizer() -> Any:
    """The tokenizer that SFTTrainer asks for; the examples are ids already."""
    from transformers import AutoTokenizer

    from benchmarks.foreign.ours import STUDENT

    return AutoTokenizer.from_pretrained(str(STUDENT))
