"""What a foreign trainer is seen to train: the rows of its first step, and its own loss there."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

IGNORED = -100
ROWS_PER_STEP = 8
STEPS = 2

Request = dict[str, Any]
"""What to open and train: `opens`, `shape`, `model`, `template`, `scratch`."""
Testimony = dict[str, Any]
"""What was seen: `rows`, `trained_tokens`, `first_rows`, `first_loss`, or `refused`."""


class Witness:
    """A collator that keeps the first batch it makes."""

    def __init__(self, collate: Callable[..., Any]) -> None:
        self.collate = collate
        self.first: Mapping[str, Any] | None = None

    def __call__(self, rows: Any, *others: Any) -> Any:
        batch = self.collate(rows, *others)
        if self.first is None:
            self.first = batch
        return batch


def testimony_of(trainer: Any) -> Testimony:
    """What a trainer that is a transformers Trainer trains: counted over all that its own loader
    gives, then seen in two steps.
    """
    num_rows, trained_tokens = counted(trainer.get_train_dataloader())
    trainer.data_collator = witness = Witness(trainer.data_collator)
    trainer.train()
    assert witness.first is not None
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return {
        "rows": num_rows,
        "trained_tokens": trained_tokens,
        "first_rows": unpadded(witness.first),
        "first_loss": losses[0],
        "steps": len(losses),
    }


def counted(batches: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """The rows of these batches, and their tokens that have a loss."""
    num_rows = num_tokens = 0
    for batch in batches:
        num_rows += len(batch["labels"])
        # Nothing predicts the first token of a row.
        num_tokens += int((batch["labels"][:, 1:] != IGNORED).sum())
    return num_rows, num_tokens


def unpadded(batch: Mapping[str, Any]) -> list[tuple[list[int], list[int]]]:
    """Each row's token ids and labels up to the last token that has a loss."""
    rows = []
    for row, (ids, labels) in enumerate(zip(batch["input_ids"], batch["labels"], strict=True)):
        if "attention_mask" in batch:
            held = batch["attention_mask"][row].bool()
            ids, labels = ids[held], labels[held]
        trained = [place for place, label in enumerate(labels.tolist()) if label != IGNORED]
        end = trained[-1] + 1 if trained else 0
        rows.append((ids[:end].tolist(), labels[:end].tolist()))
    return rows


def answer(train: Callable[[Request], Testimony], *libraries: str) -> None:
    """Answers the request in the file of the first argument, in the file of the second."""
    request = json.loads(Path(sys.argv[1]).read_text())
    try:
        told = train(request)
    except Exception as error:  # whatever a stranger raises is its answer
        traceback.print_exc()
        told = {"refused": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    told["versions"] = {name: version(name) for name in libraries}
    Path(sys.argv[2]).write_text(json.dumps(told))


def arguments_of(request: Request) -> dict[str, Any]:
    """The arguments that every transformers Trainer is given: two steps in float32 on a CPU."""
    return {
        "output_dir": request["scratch"],
        "per_device_train_batch_size": ROWS_PER_STEP,
        "max_steps": STEPS,
        "logging_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "seed": 1,
    }


def tokenizer_of(request: Request) -> Any:
    """The model's tokenizer."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    model = Path(request["model"])
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except Exception:  # transformers 4 does not know the class that transformers 5 writes
        named = json.loads((model / "tokenizer_config.json").read_text())
        special = {key: named[key] for key in ("eos_token", "pad_token")}
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(model / "tokenizer.json"), **special)
    if request.get("template"):
        tokenizer.chat_template = request["template"]
    return tokenizer


def model_of(request: Request) -> Any:
    """The model, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        request["model"], dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    )
