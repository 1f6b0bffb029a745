"""The loss of examples that are not trained on, task by task.

Shapes: none; every rank computes its share of the rows, and all get the same figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch.distributed.fsdp import FSDPModule

from train.batches import build_batch
from train.examples import ExampleTable
from train.fit import passes_on
from train.layouts import Layout
from train.loss import LabelledLoss
from train.packing import Packing, pack
from train.ranks import is_distributed, rank, world_size


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """The rows of each task of a dataset that is not trained on."""

    table: ExampleTable
    rows_by_task: Mapping[str, Sequence[Sequence[int]]]
    """Task -> packed rows of indices of examples."""
    seq_len: int
    layout: Layout
    rows_per_forward: int | None

    def losses(self, loss: LabelledLoss) -> dict[str, float]:
        """Task -> mean cross entropy of its labelled tokens; `all` is that of all together."""
        was_training = loss.training
        loss.eval()
        try:
            with torch.no_grad():
                sums = {task: self._sums(loss, rows) for task, rows in self.rows_by_task.items()}
        finally:
            loss.train(was_training)
            for module in loss.modules():
                if isinstance(module, FSDPModule):  # no backward pass will do it
                    module.reshard()
        sums["all"] = torch.stack(list(sums.values())).sum(dim=0)
        return {task: (total / count).item() for task, (total, count) in sums.items()}

    def _sums(self, loss: LabelledLoss, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """The summed loss of some rows and the number of their labels, over all ranks."""
        mine = rows[rank() :: world_size()]
        batch = build_batch(
            [[self.table[index] for index in row] for row in mine],
            self.seq_len,
            layout=self.layout,
            rows_per_forward=self.rows_per_forward or 1,
        )
        device = next(loss.parameters()).device
        total = torch.zeros(2, dtype=torch.float64, device=device)
        for each in passes_on(batch, device):
            total[0] += loss(each.input_ids_BT, each.labels_BT, each.position_ids_BT)
        total[1] = batch.num_labelled_tokens
        if is_distributed():
            torch.distributed.all_reduce(total)
        return total


def held_out(
    table: ExampleTable,
    *,
    seq_len: int,
    too_long: Literal["refuse", "drop"],
    layout: Layout,
    rows_per_forward: int | None,
) -> HeldOut:
    """The HeldOut of a dataset's examples, without those that are longer than a row and may be
    dropped.

    Raises:
        ValueError: an example is longer than a row and may not be dropped, or all are.
    """
    is_kept_E = (table.lengths_E <= seq_len) | (too_long == "refuse")
    kept = np.flatnonzero(is_kept_E)
    if not len(kept):
        raise ValueError(
            f"every held-out example has more than {seq_len} tokens (seq_len), and too_long is "
            f'"drop"; set seq_len to {table.lengths_E.min()} or more'
        )
    in_order = kept[np.argsort(table.task_E[kept], kind="stable")]
    places, starts = np.unique(table.task_E[in_order], return_index=True)
    parts = np.split(in_order, starts[1:])
    by_task = {table.tasks[place]: part for place, part in zip(places, parts, strict=True)}
    return HeldOut(
        table=table,
        rows_by_task={
            task: [indices[list(row)].tolist() for row in _packed(table, indices, seq_len).rows]
            for task, indices in sorted(by_task.items())
        },
        seq_len=seq_len,
        layout=layout,
        rows_per_forward=rows_per_forward,
    )


def _packed(table: ExampleTable, indices: Any, seq_len: int) -> Packing:
    return pack(
        table.lengths_E[indices],
        seq_len=seq_len,
        seed=0,
        name_of=lambda index: table.name(int(indices[index])),
    )
