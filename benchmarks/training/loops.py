"""Our own loop, and the shortest one that trains the same tensors right."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.training.sizes import LEARNING_RATE, WARM_STEPS, Data, Sizes, dtype_of, model_of
from train.batches import Batch, PackedExamples, packed_batches
from train.fit import StepMetrics, fit
from train.flops import TrainingFlops, training_flops
from train.layouts import RowCosts
from train.loss import LabelledLoss
from train.optimizers import Schedule, build_optimizers
from train.ranks import device


def batches_of(sizes: Sizes, data: Data, flops: TrainingFlops | None) -> Any:
    """The batches of training; of packed rows alone without `flops`."""
    lengths = [len(each.input_ids) for each in data.examples]
    part = PackedExamples(examples=data.examples, packing=data.packing, lengths=lengths)
    return packed_batches(
        [part],
        rows_per_step=sizes.rows_per_step,
        seed=0,
        costs=RowCosts(operations=flops.of) if flops else None,
        rows_per_forward=sizes.rows_per_forward,
    )


def ours(sizes: Sizes, data: Data, *, is_packed: bool = False) -> float:
    """Tokens a second of our own loop."""
    loss = LabelledLoss(model_of(sizes), dtype=dtype_of())
    flops = training_flops(loss.model)
    told: list[StepMetrics] = []
    fit(
        loss,
        batches_of(sizes, data, None if is_packed else flops),
        build_optimizers(loss.model, optimizer="adamw", learning_rate=LEARNING_RATE),
        Schedule(learning_rate=LEARNING_RATE, num_steps=sizes.steps + WARM_STEPS),
        log=told.append,
    )
    measured = told[WARM_STEPS:]
    tokens = sum(each.tokens_per_second * each.seconds for each in measured)
    return tokens / sum(each.seconds for each in measured)


def bare(sizes: Sizes, data: Data, *, is_packed: bool) -> float:
    """Tokens a second of the shortest loop that trains these tensors right."""
    model = model_of(sizes)
    model.train()
    flops = None if is_packed else training_flops(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    batches = batches_of(sizes, data, flops)
    tokens, seconds = 0, 0.0
    for step in range(sizes.steps + WARM_STEPS):
        batch: Batch = next(batches)
        began = time.perf_counter()
        for each in batch.passes:
            ids_BT, labels_BT, positions_BT = (
                tensor.to(device())
                for tensor in (each.input_ids_BT, each.labels_BT, each.position_ids_BT)
            )
            labelled = labels_BT[:, 1:] >= 0
            with torch.autocast(device().type, dtype_of(), enabled=dtype_of() != torch.float32):
                hidden = model.model(
                    input_ids=ids_BT, position_ids=positions_BT, use_cache=False
                ).last_hidden_state
                logits = model.lm_head(hidden[:, :-1][labelled]).float()
            summed = F.cross_entropy(logits, labels_BT[:, 1:][labelled], reduction="sum")
            (summed / batch.num_labelled_tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device().type == "cuda":
            torch.cuda.synchronize()
        if step >= WARM_STEPS:
            tokens, seconds = tokens + batch.num_tokens, seconds + time.perf_counter() - began
    return tokens / seconds
