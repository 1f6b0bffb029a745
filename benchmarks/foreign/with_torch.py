"""A loop of one's own in torch, on rows from torch's DataLoader or from ray.data.read_parquet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.foreign.witness import (
    IGNORED,
    ROWS_PER_STEP,
    STEPS,
    Request,
    Testimony,
    answer,
    counted,
    model_of,
    unpadded,
)

COLUMNS = ["input_ids", "labels"]


def padded(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch of rows of tokens; padding has no label, and no row looks at what is behind it."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def column(name: str, value: int) -> Any:
        values = [torch.as_tensor(row[name], dtype=torch.int64) for row in rows]
        return pad_sequence(values, batch_first=True, padding_value=value)

    return {"input_ids": column("input_ids", 0), "labels": column("labels", IGNORED)}


def dataloader_batches(directory: str) -> Iterable[Mapping[str, Any]]:
    """Batches of a dataset directory, shuffled by torch's DataLoader."""
    import datasets
    import torch
    from torch.utils.data import DataLoader

    torch.manual_seed(1)
    rows = datasets.load_from_disk(directory).with_format("torch", columns=COLUMNS)
    batches: Iterable[Mapping[str, Any]] = DataLoader(
        rows, batch_size=ROWS_PER_STEP, shuffle=True, collate_fn=padded
    )
    return batches


def ray_batches(directory: str) -> Iterable[Mapping[str, Any]]:
    """Batches of a directory of Parquet files, as Ray Data reads them."""
    import ray

    # A cluster of its own, whatever else runs on this machine.
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    rows = ray.data.read_parquet(directory, columns=COLUMNS)
    for batch in rows.iter_batches(batch_size=ROWS_PER_STEP, batch_format="numpy"):
        split = zip(*(batch[name] for name in COLUMNS), strict=True)
        yield padded([dict(zip(COLUMNS, values, strict=True)) for values in split])


def train(request: Request) -> Testimony:
    """What the loop trains: all the batches are counted, and the first two are steps."""
    import torch

    read = {"dataset": dataloader_batches, "tokens": ray_batches}[request["shape"]]
    batches = list(read(request["opens"]))
    num_rows, trained_tokens = counted(batches)
    model = model_of(request)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    losses = []
    for batch in batches[:STEPS]:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    return {
        "rows": num_rows,
        "trained_tokens": trained_tokens,
        "first_rows": unpadded(batches[0]),
        "first_loss": losses[0],
        "steps": len(losses),
    }


if __name__ == "__main__":
    answer(train, "torch", "datasets", "ray")
