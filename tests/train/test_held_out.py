from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.train.test_sft import PLAN
from train.examples import load_examples
from train.held_out import held_out
from train.layouts import Layout
from train.loss import LabelledLoss
from train.plan import Execution
from train.sft import train_student


@pytest.mark.parametrize("layout", ["packed", "apart", "alone"])
@pytest.mark.parametrize("rows_per_forward", [None, 3])
def test_the_loss_of_a_task_is_the_mean_over_its_labelled_tokens(
    model_dir: Path, dataset_dir: Path, layout: Layout, rows_per_forward: int | None
) -> None:
    table = load_examples(dataset_dir, prompts="erased", model_dir=model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    others = held_out(
        table, seq_len=512, too_long="refuse", layout=layout, rows_per_forward=rows_per_forward
    )
    loss = LabelledLoss(model)
    loss.train()
    found = others.losses(loss)
    assert loss.training and found.keys() == {"sums", "all"}
    total, count = 0.0, 0
    for index in range(len(table)):
        row = table[index]
        ids_BT = torch.from_numpy(row.input_ids.copy()).unsqueeze(0).long()
        labels_BT = torch.from_numpy(row.labels).unsqueeze(0)
        labels = row.num_labels
        with torch.no_grad():
            total += model.eval()(input_ids=ids_BT, labels=labels_BT).loss.item() * labels
        count += labels
    assert found["sums"] == found["all"] == pytest.approx(total / count, rel=1e-5)


def test_a_training_measures_the_held_out_loss_on_its_schedule_and_at_the_end(
    tmp_path: Path, model_dir: Path, dataset_dir: Path
) -> None:
    train_student(
        PLAN,
        Execution(eval_dataset=str(dataset_dir), eval_steps=3),
        model_dir=model_dir,
        dataset_dir=dataset_dir,
        output_dir=tmp_path / "student",
        metrics_file=tmp_path / "metrics.jsonl",
        prompts="erased",
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    measured = {line["step"]: line["held_out"] for line in lines if line["held_out"]}
    assert measured.keys() == {3, 6, 8}
    assert measured[8]["all"] < measured[3]["all"] and measured[8].keys() == {"sums", "all"}
    assert all(line["seconds_left"] >= 0 and line["memory_mb"] > 0 for line in lines)
    assert all(line["mfu"] is None for line in lines) or torch.cuda.is_available()


def test_held_out_examples_that_may_be_dropped_are_and_if_all_are_a_line_says_so(
    model_dir: Path, dataset_dir: Path
) -> None:
    table = load_examples(dataset_dir, prompts="erased", model_dir=model_dir)
    lengths = sorted(table.lengths_E.tolist())
    seq_len = lengths[len(lengths) // 2]
    few = held_out(table, seq_len=seq_len, too_long="drop", layout="packed", rows_per_forward=None)
    kept = [index for rows in few.rows_by_task.values() for row in rows for index in row]
    assert sorted(kept) == [n for n, length in enumerate(table.lengths_E) if length <= seq_len]
    with pytest.raises(ValueError, match="none is ever cut"):
        held_out(table, seq_len=seq_len, too_long="refuse", layout="packed", rows_per_forward=None)
    with pytest.raises(ValueError, match=f"every held-out .* set seq_len to {lengths[0]} or more"):
        held_out(table, seq_len=1, too_long="drop", layout="packed", rows_per_forward=None)
